"""Refusals and warnings of a step, by its input."""

import warnings

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from two_heads import TwoHeads, losses_and_features

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
    with pytest.warns(UserWarning, match="outside of shared") as caught:
        engine(net).accumulate(net.losses())
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


def test_no_loss_and_an_unknown_one_are_refused(x: Tensor) -> None:
    net = TwoHeads()
    engine = recon.Engine(net.backbone, ["a", "b"], recon.create_method("joint"))
    with pytest.raises(ValueError, match="no loss of any task"):
        engine.backward({})
    with pytest.raises(ValueError, match=r"unknown \['c'\]"):
        engine.backward({**net.losses(x), "c": net.losses(x)["a"]})


def test_a_loss_without_graph_or_not_scalar_is_named(x: Tensor) -> None:
    net = TwoHeads()
    engine = recon.Engine(net.backbone, ["a", "b"], recon.create_method("mgda"))
    losses = net.losses(x)
    with pytest.raises(ValueError, match="loss of task 'b' has no graph"):
        engine.backward({"a": losses["a"], "b": losses["b"].detach()})
    with pytest.raises(TypeError, match=r"loss of task 'a' is 1.0; it must be a scalar tensor"):
        engine.backward({"a": 1.0, "b": losses["b"]})
    with pytest.raises(ValueError, match=r"loss of task 'a' has shape \(2,\)"):
        engine.backward({"a": losses["a"].expand(2), "b": losses["b"]})


@pytest.mark.parametrize("name", ["graddrop", "moco", "trimmed_mean", "fmtl"])
def test_a_jacobian_method_is_refused_at_the_representation_by_name(name: str) -> None:
    net, method = TwoHeads(), recon.create_method(name)
    with pytest.raises(
        ValueError, match=f"{type(method).__name__} needs the Jacobian .* Gramian method: .*cagrad, .*mgda"
    ):
        recon.Engine(net.backbone, ["a", "b"], method, at="representation")


def test_loss_methods_branches_and_unknown_places_are_refused_at_the_representation() -> None:
    net = TwoHeads()
    with pytest.raises(ValueError, match="Joint weights losses and takes one backward"):
        recon.Engine(net.backbone, ["a", "b"], recon.create_method("joint"), at="representation")
    branched = recon.branch(net.backbone, ["4"], ["a", "b"])
    with pytest.raises(ValueError, match=r"branched network .* use at='parameters'"):
        recon.Engine(branched, ["a", "b"], recon.create_method("mgda"), at="representation")
    with pytest.raises(ValueError, match="at must be 'parameters' or 'representation', got 'features'"):
        recon.Engine(net.backbone, ["a", "b"], recon.create_method("mgda"), at="features")  # type: ignore[arg-type]


def test_a_representation_that_is_none_is_refused(x: Tensor) -> None:
    net = TwoHeads()
    engine = recon.Engine(net.backbone, ["a", "b"], recon.create_method("mgda"), at="representation")
    losses, features = losses_and_features(net, x)
    with pytest.raises(TypeError, match="needs the features"):
        engine.backward(losses)
    with pytest.raises(TypeError, match="of type dict"):
        engine.backward(losses, {"a": features})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="not detached"):
        engine.backward(losses, features.detach())
    with pytest.raises(ValueError, match="no loss reaches the representation"):
        engine.backward(losses_past(net, x, 0.0)[0], features)
    with pytest.raises(ValueError, match="past the representation"):
        engine.backward(*losses_past(net, x, 1.0))
    at_parameters = recon.Engine(net.backbone, ["a", "b"], recon.create_method("mgda"))
    with pytest.raises(ValueError, match="make it with at='representation'"):
        at_parameters.backward(net.losses(x), features)


def losses_past(net: TwoHeads, x: Tensor, decay: float) -> tuple[dict[str, Tensor], Tensor]:
    """Losses that also decay the shared weights; without decay, losses of the heads alone."""
    losses, features = losses_and_features(net, x)
    if decay:
        return {t: loss + decay * net.backbone[4].weight.square().sum() for t, loss in losses.items()}, features
    return {t: head.weight.square().sum() for t, head in net.heads.items()}, features


def test_what_a_method_refuses_is_named_by_task_and_step(x: Tensor) -> None:
    net = TwoHeads()
    engine = recon.Engine(net.backbone, ["a", "b"], recon.create_method("gls"))
    engine.backward(net.losses(x))
    with pytest.raises(ValueError, match=r"gls: .* -1 at task index 1; .* \(step 1; tasks: 0 'a', 1 'b'\)"):
        engine.backward({"a": net.losses(x)["a"], "b": net.losses(x)["b"] * 0 - 1})


def test_losses_that_are_no_mapping_are_refused(x: Tensor) -> None:
    net = TwoHeads()
    for name in ("mgda", "fmtl"):
        engine = recon.Engine(net.backbone, ["a", "b"], recon.create_method(name))
        with pytest.raises(TypeError, match="losses must be a mapping of tasks to scalar losses, got Tensor"):
            engine.step(lambda batch=None: sum(net.losses(x).values()), torch.optim.SGD(net.parameters(), lr=0.1))  # type: ignore[arg-type,return-value]


def test_at_the_representation_a_closure_of_losses_alone_is_told_what_to_return(x: Tensor) -> None:
    net = TwoHeads()
    engine = recon.Engine(net.backbone, ["a", "b"], recon.create_method("mgda"), at="representation")
    with pytest.raises(TypeError, match=r"return \(losses, features\) from the closure"):
        engine.step(lambda batch=None: net.losses(x), torch.optim.SGD(net.parameters(), lr=0.1))


@pytest.mark.parametrize("name", ["fmtl", "famo"])
def test_a_method_that_evaluates_again_is_not_run_on_one_evaluation(name: str, x: Tensor) -> None:
    net, method = TwoHeads(), recon.create_method(name)
    expected = f"{type(method).__name__} evaluates the losses several times a step; train with engine.step"
    with pytest.raises(TypeError, match=expected):
        recon.backward(net.losses(x), net.backbone, method)


def test_parameters_of_a_method_that_the_optimizer_lacks_are_warned_of(x: Tensor) -> None:
    net, method = TwoHeads(), recon.create_method("uw")
    engine = recon.Engine(net.backbone, ["a", "b"], method)
    with pytest.warns(UserWarning, match=r"UW has parameters that the optimizer does not train; .*method.parameters"):
        engine.step(lambda batch=None: net.losses(x), torch.optim.SGD(net.parameters(), lr=0.1))
    engine = recon.Engine(net.backbone, ["a", "b"], method)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optimizer = torch.optim.SGD([*net.parameters(), *method.parameters()], lr=0.1)
        engine.step(lambda batch=None: net.losses(x), optimizer)
