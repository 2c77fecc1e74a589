"""Every task's network as a separate copy: hooks, handles and kept state act in it, and later
changes reach it.
"""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from separate_copies import still
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm
from torchvision.models.feature_extraction import create_feature_extractor

from recon.branching import BranchedModule, branch

TASKS = ("left", "right")

pytestmark = pytest.mark.filterwarnings("ignore:.*cannot be traced")


class Layers(nn.Module):
    """Three layers behind control flow that a trace cannot follow."""

    def __init__(self) -> None:
        super().__init__()
        self.early, self.norm, self.late = nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 4)
        self.scale = 1.0

    def forward(self, x: Tensor) -> Any:
        if x.mean() > 1e9:
            x = x / 2
        return self.late(self.norm(self.early(x)) * self.scale)


class KeepsByHooks(Layers):
    """What DPT does: hooks bound to the network keep outputs of its layers, and its forward reads
    them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seen = {"early": torch.zeros(1, 4), "late": torch.zeros(1, 4)}
        self.early.register_forward_hook(self.keep_early)
        self.late.register_forward_hook(self.keep_late)

    def keep_early(self, module: nn.Module, inputs: Any, output: Tensor) -> None:
        self.seen["early"] = output

    def keep_late(self, module: nn.Module, inputs: Any, output: Tensor) -> None:
        self.seen["late"] = output

    def forward(self, x: Tensor) -> Any:
        super().forward(x)
        return self.seen["early"] - self.seen["late"]


class KeepsAHandle(Layers):
    def __init__(self, layer: str) -> None:
        super().__init__()
        self.handle = self.get_submodule(layer).register_forward_hook(lambda module, inputs, output: output * 2)


class CapturesWhenAsked(Layers):
    """What transformers does: at the first call that asks for it, every layer gets a hook that
    captures its output.
    """

    def __init__(self) -> None:
        super().__init__()
        self.hooked = False

    def forward(self, x: Tensor) -> Any:
        self.captured: list[Tensor] = []
        if not self.hooked:
            self.hooked = True
            for layer in (self.early, self.norm, self.late):
                layer.register_forward_hook(self.capture)
        return {"last": super().forward(x), "hidden_states": tuple(self.captured)}

    def capture(self, module: nn.Module, inputs: Any, output: Tensor) -> None:
        self.captured.append(output)


def net_of(network: nn.Module, layers: list[str]) -> BranchedModule:
    """A network whose tasks differ in what is branched."""
    net = branch(network, layers, TASKS)
    with torch.no_grad():
        for i, task in enumerate(TASKS):
            for parameter in net.branch_parameters(task):
                parameter.mul_(1 + i).add_(i)
    return net


def copies_of(net: BranchedModule, network: nn.Module) -> dict[str, nn.Module]:
    """Plain copies of the backbone with each task's tensors, made without the branched network's
    own ways.
    """
    copies = {task: copy.deepcopy(network) for task in net.tasks}
    for task, plain in copies.items():
        own = {**net.shared.state_dict(), **net.branches[task].state_dict()}
        plain.load_state_dict(own)
        plain.train(net.training)
    return copies


@pytest.mark.parametrize("layers", [["early"], ["late"], ["early", "late"], ["norm"]], ids="-".join)
@pytest.mark.parametrize(
    "make",
    [KeepsByHooks, lambda: KeepsAHandle("early"), lambda: KeepsAHandle("late"), CapturesWhenAsked],
    ids=["bound hooks", "handle", "handle of a branch", "captures"],
)
def test_hooks_act_in_the_task_they_belong_to(make: Callable[[], nn.Module], layers: list[str]) -> None:
    torch.manual_seed(0)
    network = still(make()).eval()
    net = net_of(network, layers)
    x = torch.randn(5, 4).double()
    with torch.no_grad():
        for _ in range(2):
            outputs = net(x)
            for task, plain in copies_of(net, network).items():
                torch.testing.assert_close(outputs[task], plain(x), rtol=0, atol=1e-12)
                torch.testing.assert_close(net.extract(task)(x), plain(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("again", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))], ids=["copy", "pickle"])
@pytest.mark.parametrize("layer", ["early", "late"])
def test_copies_keep_what_hooks_and_tensors_belong_to(layer: str, again: Callable[[Any], BranchedModule]) -> None:
    torch.manual_seed(0)
    net = again(net_of(still(KeepsByHooks()), [layer])).eval()
    x = torch.randn(5, 4).double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(1.5)
        for task, output in net(x).items():
            assert torch.equal(output, net.extract(task)(x))
            assert torch.equal(output, copies_of(net, KeepsByHooks().double())[task](x))


def exchange_a_module(net: BranchedModule) -> None:
    net.shared.norm = nn.Sequential(nn.Linear(4, 4), nn.Tanh()).double()


def exchange_a_branched_module(net: BranchedModule) -> None:
    net.branches["left"].late = nn.Sequential(nn.Linear(4, 4), nn.Tanh()).double()


def assign_tensors(net: BranchedModule) -> None:
    net.load_state_dict({name: tensor * 2 for name, tensor in net.state_dict().items()}, assign=True)


def replace_a_parameter(net: BranchedModule) -> None:
    net.shared.early.weight = nn.Parameter(torch.ones(4, 4).double())


def set_an_attribute(net: BranchedModule) -> None:
    net.shared.scale = 3.0


def train_one_module(net: BranchedModule) -> None:
    net.shared.norm.train()


def register_a_hook(net: BranchedModule) -> None:
    net.shared.early.register_forward_hook(lambda module, inputs, output: -output)


def parametrize_a_layer(net: BranchedModule) -> None:
    torch.manual_seed(1)
    spectral_norm(net.shared.early)


@pytest.mark.parametrize(
    "change",
    [
        exchange_a_module,
        exchange_a_branched_module,
        assign_tensors,
        replace_a_parameter,
        set_an_attribute,
        train_one_module,
        register_a_hook,
        parametrize_a_layer,
    ],
)
def test_later_changes_reach_every_task(change: Callable[[BranchedModule], None]) -> None:
    torch.manual_seed(0)
    net = net_of(still(Layers()), ["late"]).eval()
    x = torch.randn(5, 4).double()
    before = net(x)
    change(net)
    expected = {}
    for task in TASKS:  # the shared network with the task's own layer put in is what has to run
        plain = copy.deepcopy(net.shared)
        plain.late = copy.deepcopy(net.branches[task].late)
        expected[task] = plain(x)
    outputs = net(x)
    for task in TASKS if change is not exchange_a_branched_module else TASKS[:1]:
        assert torch.equal(outputs[task], expected[task])
        assert not torch.allclose(outputs[task], before[task])
        torch.testing.assert_close(net.extract(task)(x), net(x)[task], rtol=0, atol=1e-12)


def test_hook_that_is_removed_later_is_removed_everywhere() -> None:
    net = net_of(Layers(), ["late"]).eval()
    calls: list[nn.Module] = []
    before = net(torch.ones(2, 4))["right"]
    handle = net.shared.early.register_forward_hook(lambda module, inputs, output: calls.append(module))
    net(torch.ones(2, 4))
    assert calls
    calls.clear()
    handle.remove()
    assert torch.equal(net(torch.ones(2, 4))["right"], before)
    assert not calls


class Recorder:
    def __init__(self) -> None:
        self.outputs: list[Tensor] = []

    def record(self, module: nn.Module, inputs: Any, output: Tensor) -> None:
        self.outputs.append(output)


def test_hook_of_another_object_stays_bound_to_it() -> None:
    net, recorder = net_of(Layers(), ["early"]), Recorder()
    net.shared.norm.register_forward_hook(recorder.record)
    net(torch.randn(5, 4))
    assert len(recorder.outputs) == 2


def test_frozen_parameters_stay_without_gradient_in_every_task() -> None:
    net = net_of(Layers(), ["late"])
    net.shared.early.requires_grad_(False)
    sum(output.sum() for output in net(torch.randn(5, 4)).values()).backward()
    assert net.shared.early.weight.grad is None
    assert net.shared.norm.weight.grad is not None


class Counts(Layers):
    def __init__(self) -> None:
        super().__init__()
        self.steps = 0

    def forward(self, x: Tensor) -> Any:
        self.steps += 1
        return super().forward(x) * self.steps


def test_state_that_a_forward_keeps_is_each_tasks_own() -> None:
    net = net_of(Counts(), ["late"]).eval()
    x = torch.randn(5, 4)
    first, second = net(x), net(x)
    for task in TASKS:
        torch.testing.assert_close(second[task], 2 * first[task])


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.late = nn.LSTM(4, 4, batch_first=True), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.late(self.lstm(x if x.sum() < 1e9 else -x)[0])


def test_lists_of_parameters_follow_their_parameters() -> None:
    torch.manual_seed(0)
    net = net_of(Recurrent(), ["late"])
    net.double()
    assign_tensors(net)
    x = torch.randn(2, 3, 4).double()
    outputs = net(x)
    for task, plain in copies_of(net, Recurrent().double()).items():
        assert torch.equal(outputs[task], plain(x))
    outputs["right"].sum().backward()
    assert net.shared.lstm.weight_ih_l0.grad is not None


def extractor() -> nn.Module:
    block = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4))
    return create_feature_extractor(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), block), {"1": "low", "2": "high"}
    )


@pytest.mark.parametrize("again", [lambda net: net, copy.deepcopy], ids=["itself", "copy"])
@pytest.mark.parametrize("layer", ["1", "2.0"])
def test_feature_extractors_stay_in_evaluation(layer: str, again: Callable[[Any], BranchedModule]) -> None:
    torch.manual_seed(0)
    network = still(extractor()).eval()
    net = again(net_of(network, [layer])).double()
    x = torch.randn(2, 3, 8, 8).double()
    plain = net.extract("right")
    norms = [module for module in (*net.modules(), *plain.modules()) if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) > 3 and not any(norm.training for norm in norms)
    expected = copies_of(net, network)["right"](x)
    for outputs in (net(x)["right"], plain(x), net.train().eval().extract("right")(x)):
        torch.testing.assert_close(outputs, expected, rtol=0, atol=1e-12)


class WritesIntoItsInput(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.early, self.late = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor, more: dict[str, Tensor]) -> Tensor:
        x += 1
        more["y"].mul_(2)
        return x if x.sum() > 1e9 else self.late(self.early(x) * more["y"])


@pytest.mark.filterwarnings("ignore:.*cannot be traced")
def test_every_task_gets_the_input_as_it_was() -> None:
    torch.manual_seed(0)
    plain = WritesIntoItsInput()
    net = branch(plain, ["late"], ("a", "b", "c"))
    x, y = torch.randn(2, 3, 4)
    want = plain(x.clone(), {"y": y.clone()})
    for output in net(x, {"y": y}).values():
        assert torch.equal(output, want)
