"""What the first step warns of."""

import warnings

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import recon
from recon.gradients.graph import leaves_in_common


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder, self.neck = nn.Linear(4, 5), nn.Linear(5, 5)
        self.heads = nn.ModuleDict({task: nn.Linear(5, 1) for task in ("a", "b", "c")})
        self.x = torch.randn(3, 4, generator=torch.Generator().manual_seed(1))

    def losses(self, own_neck_of_c: bool = False) -> dict[str, Tensor]:
        encoded = self.encoder(self.x)
        features = self.neck(encoded)
        return {
            task: head(encoded if own_neck_of_c and task == "c" else features).square().mean()
            for task, head in self.heads.items()
        }


def engine(net: Net, method: str = "mgda", observed: bool = False, shared: object = None) -> recon.Engine:
    shared = net.encoder if shared is None else shared
    analyzer = recon.ConflictAnalyzer(shared, net.heads) if observed else None  # type: ignore[arg-type]
    return recon.Engine(shared, list(net.heads), method, analyzer)  # type: ignore[arg-type]


def said(action: object) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        action()  # type: ignore[operator]
    return [str(warning.message) for warning in caught]


@pytest.mark.parametrize(("name", "observed"), [("mgda", False), ("mgda", True), ("graddrop", False), ("joint", True)])
def test_a_part_that_was_left_out_is_told_with_shapes_and_tasks(name: str, observed: bool) -> None:
    net = Net()
    made = engine(net, name, observed)
    (message,) = said(lambda: made.backward(net.losses(own_neck_of_c=True)))
    assert message.startswith("2 parameters outside of shared are reached by the losses of several tasks ('a', 'b')")
    assert "(5, 5), (5,)" in message
    assert "shared=[encoder, neck]" in message
    assert said(lambda: made.backward(net.losses())) == []  # looked for in the first step alone


def test_the_warning_points_at_the_line_that_takes_the_step() -> None:
    net = Net()
    with pytest.warns(UserWarning, match="outside of shared") as caught:
        engine(net).backward(net.losses())
    assert caught[0].filename == __file__


def test_loss_methods_without_a_map_lack_nothing() -> None:
    net = Net()
    assert said(lambda: engine(net, "joint").backward(net.losses())) == []
    assert said(lambda: engine(net, "uw").backward(net.losses())) == []


def test_nothing_is_said_when_the_part_is_handed_over_branched_or_a_single_tasks() -> None:
    net = Net()
    assert said(lambda: engine(net, shared=[net.encoder, net.neck]).backward(net.losses())) == []
    whole = nn.Sequential(net.encoder, net.neck)
    branched = recon.branch(whole, ["1"], ["a", "b", "c"])
    own = branched(net.x)
    losses = {task: head(own[task]).square().mean() for task, head in net.heads.items()}
    assert said(lambda: engine(net, shared=branched).backward(losses)) == []
    single = recon.Engine(net.encoder, ["a"], "mgda")
    assert said(lambda: single.backward({"a": net.losses()["a"]})) == []


def test_inputs_that_losses_differentiate_by_are_no_part_that_was_left_out() -> None:
    net = Net()
    x = net.x.clone().requires_grad_()
    value = net.encoder(x).square().sum()
    (slope,) = torch.autograd.grad(value, x, create_graph=True)
    equation = recon.Engine(net.encoder, ["equation", "boundary"], "mgda")
    assert said(lambda: equation.backward({"equation": slope.square().mean(), "boundary": value})) == []


def test_losses_from_one_compiled_function_are_not_taken_for_shared_heads() -> None:
    """A compiled function is one node of the graph, from which each loss seems to reach every head."""

    class Compiled(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, features: Tensor, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
            return (features * first).sum(), (features * second).sum()

        @staticmethod
        def backward(ctx: object, *gradients: Tensor) -> tuple[Tensor, ...]:
            raise NotImplementedError

    encoder, heads = nn.Linear(2, 2), [torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)]
    features = encoder(torch.ones(1, 2))
    losses = Compiled.apply(features, *heads)
    assert set(leaves_in_common(losses)) == {*heads, *encoder.parameters()}
    named = type("CompiledFunction", (Compiled,), {})
    assert set(leaves_in_common(named.apply(features, *heads))) == set(encoder.parameters())


def test_a_checkpoint_that_hides_its_parameters_trains_as_before() -> None:
    net = Net()

    def losses() -> dict[str, Tensor]:
        x = net.x.clone().requires_grad_()
        features = checkpoint(net.encoder, x, use_reentrant=True)
        return {task: head(features).square().mean() for task, head in net.heads.items()}

    joint = engine(net, "joint", observed=False)
    assert said(lambda: joint.backward(losses())) == []
    assert net.encoder.weight.grad is not None
