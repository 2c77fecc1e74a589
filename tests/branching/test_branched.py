import gc
import math
import weakref
from collections import OrderedDict
from typing import Any, NamedTuple

import pytest
import torch
import torchvision
from separate_copies import still
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from recon.branching import BranchedModule, branch

TASKS = ("left", "right")


class Layers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.early, self.middle, self.late = (nn.Linear(4, 4) for _ in range(3))
        self.norm = nn.BatchNorm1d(4)


class Convolutions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.conv2, self.norm2 = nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.fc = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(x))
        y += x
        return self.fc(torch.flatten(self.relu(y).mean((2, 3)), 1))


class Features(NamedTuple):
    early: Tensor
    late: Tensor


class SeveralInputs(Layers):
    def forward(self, x: Tensor, y: Tensor | None = None, *, double: bool = False, scale: float = 1.0) -> Tensor:
        x = self.early(x)
        if y is not None:
            x = x + self.middle(y)
        if double:
            x = x * 2
        return self.late(x) * scale


class SeveralOutputs(Layers):
    def __init__(self, container: Any) -> None:
        super().__init__()
        self.container = container

    def forward(self, x: Tensor) -> Any:
        early = self.early(x)
        return self.container(early, self.late(early))


class ControlFlow(Layers):
    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.early(x))
        if x.sum() > 1e6:
            return x
        return self.late(nn.functional.dropout(x, 0.5, self.training))


class ControlFlowInTraining(Layers):
    def forward(self, x: Tensor) -> Tensor:
        return self.late(x if self.training and x.sum() > 0 else self.early(x))


class Checkpointed(Layers):
    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 1e6:
            return x
        return self.late(checkpoint(self._inner, x, use_reentrant=False))

    def _inner(self, x: Tensor) -> Tensor:
        return torch.tanh(self.middle(torch.tanh(self.early(x))))


class RandomDepth(Layers):
    def forward(self, x: Tensor) -> Tensor:
        return self.late(x if torch.rand(1).item() < 0.5 else self.early(x))


class Remembers(Layers):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(4))

    def forward(self, x: Tensor) -> Tensor:
        x = self.early(x)
        self.mean = self.mean * 0.5 + x.detach().mean(0) * 0.5
        return self.late(x - self.mean)


class Counts(Layers):
    def __init__(self) -> None:
        super().__init__()
        self.steps = 0

    def forward(self, x: Tensor) -> Tensor:
        self.steps += 1
        return self.late(x) * self.steps


class RemembersState(Layers):
    def __init__(self) -> None:
        super().__init__()
        self.state: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        x = self.early(x)
        self.state = x.detach() if self.state is None else (x.detach() + self.state) / 2
        return self.late(self.state)


class NormalisesByFunction(Layers):
    def forward(self, x: Tensor) -> Tensor:
        norm = self.norm
        return nn.functional.batch_norm(self.late(x), norm.running_mean, norm.running_var, training=self.training)


class WritesToItsOwnTensor(Layers):
    def forward(self, x: Tensor) -> Tensor:
        totals = torch.zeros(4)
        totals += x.detach().sum(0)
        return self.late(x + totals)


class WritesToShared(Layers):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(4))

    def forward(self, x: Tensor) -> Tensor:
        x = self.late(x)
        self.mean.mul_(0.5).add_(x.detach().mean(0), alpha=0.5)
        return x - self.mean.clone()


def untraced(network: nn.Module, layers: list[str]) -> BranchedModule:
    with pytest.warns(UserWarning, match="cannot be traced") as caught:
        net = branch(network, layers, TASKS)
    assert len(caught) == 1
    return net


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        (["one"], "branch needs at least two tasks"),
        ("both", "give a list of names"),
        (["one", "one"], "'one' is given more than once"),
        (["a task", "b"], "'a task' is not an identifier"),
        (["items", "b"], "'items' is one that nn.ModuleDict uses"),
    ],
)
def test_tasks_that_cannot_be_are_refused(tasks: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        branch(Layers(), ["early"], tasks)


def test_what_does_not_depend_on_a_branch_is_one_tensor() -> None:
    outputs = branch(SeveralOutputs(Features), ["late"], TASKS)(torch.randn(2, 4))
    assert outputs["left"].early is outputs["right"].early
    assert outputs["left"].late is not outputs["right"].late
    outputs = branch(nn.Sequential(nn.Linear(4, 4)), [], TASKS)(torch.randn(2, 4))
    assert outputs["left"] is outputs["right"]


@pytest.mark.parametrize(
    "container",
    [
        Features,
        lambda *x: x,
        lambda *x: list(x),
        lambda a, b: {"a": a, "b": [b, 1]},
        lambda a, b: OrderedDict(a=a, b=b),
    ],
    ids=["namedtuple", "tuple", "list", "dict", "ordered"],
)
def test_every_task_gets_the_whole_output(container: Any) -> None:
    network = SeveralOutputs(container)
    x = torch.randn(2, 4)
    outputs = branch(network, ["early"], TASKS)(x)
    expected = network(x)
    for task in TASKS:
        assert type(outputs[task]) is type(expected)
        torch.testing.assert_close(outputs[task], expected)


@pytest.mark.filterwarnings("error:.*cannot be traced")
def test_every_way_of_calling_is_traced_for_itself() -> None:
    network = SeveralInputs()
    net = branch(network, ["middle", "late"], TASKS)
    x, y = torch.randn(2, 4), torch.randn(2, 4)
    calls: list[tuple[tuple[Tensor | None, ...], dict[str, Any]]] = [
        ((x,), {}),
        ((x, y), {}),
        ((x, None), {}),
        ((x,), {"y": y, "double": True}),
        ((y,), {"double": False, "scale": 3.0}),
        ((y,), {"double": False, "scale": 4.0}),
    ]
    for args, kwargs in calls:
        for task in TASKS:
            assert torch.equal(net(*args, **kwargs)[task], network(*args, **kwargs))


def test_compiled_backbone_is_branched_by_its_own_names() -> None:
    net = branch(torch.compile(Convolutions()), ["fc"], TASKS)  # type: ignore[arg-type]
    assert (net.layers, type(net.shared)) == (("fc",), Convolutions)


@pytest.mark.filterwarnings("error:.*cannot be traced")
def test_hooks_of_the_backbone_belong_to_its_forward() -> None:
    network = Convolutions()
    network.register_forward_hook(lambda module, args, output: output * 2)
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(branch(network, ["fc"], TASKS)(x)["left"], network(x))


class ComputesWithShapes(Layers):
    """Functions of ``math``, and of torchvision's operations, that torch.fx would not get
    through.
    """

    def forward(self, x: Tensor) -> Tensor:
        rows = math.ceil(x.shape[0] / 2)
        return self.late(self.early(x)[:rows]) * torchvision.ops.masks_to_boxes(x[None] < 9).sum()


@pytest.mark.filterwarnings("error:.*cannot be traced")
def test_functions_that_are_not_entered() -> None:
    network = ComputesWithShapes()
    net = branch(network, ["early"], TASKS)
    for rows in (3, 8):
        x = torch.randn(rows, 4)
        assert torch.equal(net(x)["right"], network(x))


def test_training_and_evaluation_have_their_own_programs() -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 4))

    class Block(Layers):
        def forward(self, x: Tensor) -> Tensor:
            return self.late(nn.functional.dropout(self.early(x), 0.9, self.training))

    net, x = branch(nn.Sequential(network, Block()), ["0.0"], TASKS), torch.randn(64, 4)
    assert not torch.equal(net(x)["left"], net(x)["left"])
    net.eval()
    assert torch.equal(net(x)["left"], net(x)["left"])
    assert torch.equal(net(x)["left"], net.extract("left")(x))


class KeepsNormsInEvaluation(Layers):
    def train(self, mode: bool = True) -> "KeepsNormsInEvaluation":
        super().train(mode)
        self.norm.eval()
        assert self.norm.weight.requires_grad
        return self

    def forward(self, x: Tensor) -> Tensor:
        return self.late(self.norm(self.early(x)))


@pytest.mark.parametrize("layer", ["early", "norm", "late"])
def test_backbone_decides_what_training_means(layer: str) -> None:
    network = KeepsNormsInEvaluation()
    net = branch(network, [layer], TASKS).eval().train()
    x = torch.randn(3, 4)
    assert torch.equal(net(x)["right"], network.train()(x))
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm1d)]
    assert norms and not any(norm.training or norm.num_batches_tracked for norm in norms)


def test_shared_statistics_are_updated_once_per_task_after_the_branch_and_once_before_it() -> None:
    network = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 4), nn.BatchNorm1d(4))
    net = branch(network, ["1"], ("a", "b", "c"))
    net(torch.randn(5, 4))
    assert net.shared[0].num_batches_tracked == 1
    assert net.shared[2].num_batches_tracked == 3


def test_untraceable_network_runs_once_per_task() -> None:
    torch.manual_seed(0)
    net = untraced(still(ControlFlow()), ["late"]).eval()
    x = torch.randn(5, 4).double()
    with torch.no_grad():
        net.branches["right"].late.weight.add_(1)
    plain = {task: net.extract(task) for task in TASKS}
    outputs = net(x)
    for i, task in enumerate(TASKS):
        assert torch.equal(outputs[task], plain[task](x))
        (outputs[task].sum() * (i + 1)).backward(retain_graph=True)
        (plain[task](x).sum() * (i + 1)).backward()
    total = torch.stack([plain[task].early.weight.grad for task in TASKS]).sum(0)  # type: ignore[union-attr]
    assert torch.allclose(net.shared.early.weight.grad, total, rtol=0, atol=1e-12)  # type: ignore[arg-type]
    assert torch.equal(net.branches["right"].late.weight.grad, plain["right"].late.weight.grad)
    net.train()
    assert not torch.equal(net(x)["left"], net(x)["left"])  # dropout
    assert net.shared.norm.num_batches_tracked == 2
    assert "only modules before the first branch run once" in repr(net)


def test_untraceable_network_follows_conversion_and_exchanged_modules() -> None:
    net = untraced(Remembers(), ["late"])
    net(torch.randn(5, 4))
    net.double().shared.early = nn.Linear(4, 4).double()
    x = torch.randn(5, 4).double()
    before = net.shared.mean.clone()
    expected = before
    for _ in TASKS:
        expected = expected * 0.5 + net.shared.early(x).detach().mean(0) * 0.5
    net(x)
    assert torch.allclose(net.shared.mean, expected, rtol=0, atol=1e-12)


def test_untraceable_network_recomputes_with_the_right_copies() -> None:
    net = untraced(Checkpointed().double(), ["middle"])
    plain = {task: net.extract(task) for task in TASKS}
    x = torch.randn(5, 4).double()
    for network in (net, lambda x: {task: plain[task](x) for task in TASKS}):
        sum(output.sum() * (i + 1) for i, output in enumerate(network(x).values())).backward()
    assert torch.equal(net.branches["right"].middle.weight.grad, plain["right"].middle.weight.grad)


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (ControlFlow, "TraceError: symbolically traced variables cannot be used as inputs to control flow"),
        (RandomDepth, r"\(it draws random numbers"),
        (Remembers, "sets the attribute 'mean'"),
        (Counts, "sets the attribute 'steps'"),
        (RemembersState, "sets the attribute 'state'"),
        (WritesToShared, "writes in place into 'mean'"),
        (WritesToItsOwnTensor, "writes in place into '_tensor_constant0'"),
        (NormalisesByFunction, "writes in place into 'norm.running_mean'"),
    ],
)
def test_warning_says_why_a_network_is_not_traced(network: type[nn.Module], reason: str) -> None:
    with pytest.warns(UserWarning, match=reason) as caught:
        branch(network(), ["late"], TASKS)
    assert len(caught) == 1
    assert "modules run once, but all between them 2 times" in str(caught[0].message)


def test_one_mode_may_be_traced_without_the_other() -> None:
    net = untraced(ControlFlowInTraining(), ["late"])
    x = torch.ones(2, 4)
    assert torch.equal(net(x)["left"], net.extract("left")(x))
    assert "trunk" in repr(net.eval())
    assert torch.equal(net(x)["left"], net.extract("left")(x))


class FrozenStem(Layers):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            x = self.early(x)
        return self.late(self.norm(x))


class FullPrecisionStem(Layers):
    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            x = self.early(x)
        return self.late(self.norm(x))


@pytest.mark.parametrize("network", [FrozenStem, FullPrecisionStem])
def test_modes_that_a_forward_switches_are_kept_by_not_tracing_it(network: type[Layers]) -> None:
    net = untraced(network(), ["late"])
    assert "switches gradients or autocast" in repr(net)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        sum(output.sum() for output in net(torch.randn(3, 4)).values()).backward()
    stem = net.shared.get_submodule("early")
    frozen = network is FrozenStem
    assert all((parameter.grad is None) == frozen for parameter in stem.parameters())


class MakesATensor(Layers):
    def forward(self, x: Tensor) -> Tensor:
        return self.late(self.early(x) @ torch.eye(4, dtype=self.early.weight.dtype))


def test_tensors_that_a_forward_makes_follow_the_parameters() -> None:
    net = branch(MakesATensor(), ["late"], TASKS).double()
    x = torch.randn(3, 4, dtype=torch.float64)
    torch.testing.assert_close(net(x)["left"], net.extract("left")(x))


def test_deleted_network_is_freed_at_once() -> None:
    gc.collect()
    gc.disable()
    try:
        net = branch(Convolutions(), ["fc"], TASKS)
        net(torch.randn(2, 3, 8, 8))
        tensors = [weakref.ref(parameter) for parameter in net.parameters()]
        del net
        assert not any(tensor() is not None for tensor in tensors)
    finally:
        gc.enable()


def test_tracing_leaves_the_random_state_alone() -> None:
    network = Convolutions()
    before = torch.get_rng_state()
    branch(network, ["fc"], TASKS)
    assert torch.equal(torch.get_rng_state(), before)


def test_autocast() -> None:
    net = branch(Convolutions(), ["norm2", "fc"], TASKS).eval()
    x = torch.randn(2, 3, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        outputs = net(x)
        assert outputs["left"].dtype == torch.bfloat16
        assert torch.equal(outputs["left"], net.extract("left")(x))


def test_print_shows_what_is_branched_and_where_the_trunk_ends() -> None:
    assert repr(branch(Convolutions(), ["norm2", "fc"], TASKS)).splitlines() == [
        "BranchedModule(Convolutions, tasks: left, right",
        "  branched: norm2, fc",
        "  branches: 2 layers, 28 parameters for each task",
        "  shared:   3 layers, 260 parameters",
        "  trunk:    4 operations, run once; the other 6, from 'norm2' on, run once per task",
        ")",
    ]


def test_compiled_without_breaks_in_the_graph() -> None:
    net = branch(Convolutions(), ["norm2", "fc"], TASKS).eval()
    compiled = torch.compile(net, backend="eager", fullgraph=True)
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(compiled(x)["right"], net(x)["right"])


@pytest.mark.slow
def test_compiled_forward_and_backward() -> None:
    torch.manual_seed(0)
    net = still(branch(Convolutions(), ["norm2", "fc"], TASKS))
    x = torch.randn(2, 3, 8, 8).double()
    results = []
    for run in (net, torch.compile(net)):
        net.zero_grad()
        outputs = run(x)
        (outputs["left"].sum() + 2 * outputs["right"].sum()).backward()
        results.append([*outputs.values(), *(parameter.grad.clone() for parameter in net.parameters())])
    for plain, compiled in zip(*results, strict=True):
        torch.testing.assert_close(compiled, plain, rtol=1e-8, atol=1e-8)
