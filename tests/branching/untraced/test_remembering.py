"""Networks that cannot be traced: modules that no branch touches run once, and all is as in
separate copies.
"""

import gc
import warnings
import weakref
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from separate_copies import differences, still
from torch import Tensor, nn
from torch.utils import _pytree
from torch.utils.checkpoint import checkpoint

from recon.branching import BranchedModule, branch

TASKS = ("a", "b", "c")

pytestmark = pytest.mark.filterwarnings("ignore:.*cannot be traced")


class Output(OrderedDict[str, Any]):
    """A container as transformers returns them, of fields that are read by name."""

    def __getattr__(self, name: str) -> Any:
        return self[name]


@dataclass
class Result:
    hidden: Tensor
    extra: dict[str, Any]


class Block(nn.Module):
    """A block with a residual, whose calls are counted."""

    calls = 0

    def __init__(self, act: nn.Module) -> None:
        super().__init__()
        self.linear, self.norm, self.act = nn.Linear(4, 4), nn.BatchNorm1d(4), act

    def forward(self, x: Tensor, mask: Tensor | None = None, scale: float = 1.0) -> Tensor:
        Block.calls += 1
        return x + scale * self.act(self.norm(self.linear(x)))


class Untraceable(nn.Module):
    """The way of the forward depends on values, so that only its modules can be shared."""

    def __init__(self, act: Callable[[], nn.Module] = nn.Tanh) -> None:
        super().__init__()
        self.stem, self.norm, self.act = nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU(inplace=True)
        self.blocks = nn.ModuleList(Block(act()) for _ in range(3))
        self.late = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Any:
        if x.sum() > 1e9:
            x = x / 2
        return self.features(x)

    def features(self, x: Tensor) -> Any:
        x = self.act(self.norm(self.stem(x)))
        for block in self.blocks:
            x = block(x)
        return self.late(x)


class WritesIntoBlocksOutputs(Untraceable):
    def features(self, x: Tensor) -> Any:
        x = self.norm(self.stem(x))
        y = self.blocks[0](x)
        y += self.late(x)
        return self.blocks[1](y) + self.blocks[0](x)


class HandsViewsOn(Untraceable):
    def __init__(self) -> None:
        super().__init__()
        self.flat, self.none = nn.Flatten(0), nn.Identity()

    def features(self, x: Tensor) -> Any:
        x = self.stem(x)
        view = self.flat(self.none(x))
        view += self.late(x.clone()).flatten()
        return self.blocks[1](x) + self.blocks[0](view.view_as(x))


class CallsAModuleTwice(Untraceable):
    def features(self, x: Tensor) -> Any:
        return self.late(self.norm(x) + self.norm(x)) + self.norm(self.norm(x))


class Containers(Untraceable):
    """Every kind of container between modules: a dictionary with more than tensors, a dataclass, a
    derived dict.
    """

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = PutsIn(), TakesOut()

    def features(self, x: Tensor) -> Any:
        found = self.first({"x": self.stem(x), "names": ["x", None]}, factor=2)
        found["more"] = self.late(found["hidden"])
        found.result.extra["late"] = self.late(x)
        return self.second(found), found["more"], self.second(self.first({"x": x, "names": []}, factor=3))


class PutsIn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, given: dict[str, Any], *, factor: int) -> Output:
        hidden = self.linear(given["x"]) * factor
        return Output(hidden=hidden, result=Result(hidden.tanh(), {"given": given["x"]}))


class TakesOut(nn.Module):
    def forward(self, given: Output) -> Tensor:
        result: Result = given.result
        assert set(result.extra) <= {"given", "late"}
        return given.get("more", 0) + result.hidden + sum(result.extra.values())


class Keeps(nn.Module):
    """A layer with a loss of its own, as of a mixture of experts."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.loss = nn.Linear(4, 4), torch.zeros(())

    def forward(self, x: Tensor) -> Tensor:
        x = self.linear(x)
        self.loss = x.square().mean()
        return x


class MakesMasks(Untraceable):
    """Tensors without gradients that the forward makes between modules, as attention masks and
    positions.
    """

    def features(self, x: Tensor) -> Any:
        mask = (x > 0).all(1)
        for block in self.blocks:
            x = block(x, mask)
        return self.late(self.blocks[0](x, ~mask))


class ReadsWhatModulesKeep(Untraceable):
    def __init__(self) -> None:
        super().__init__()
        self.keeps = nn.Sequential(Keeps(), nn.Tanh())

    def features(self, x: Tensor) -> Any:
        return self.late(self.keeps(x)) * self.keeps[0].loss


class ReachesABranch(Untraceable):
    """A module without parameters of its own that uses the branched layer behind everyone's
    back.
    """

    def __init__(self) -> None:
        super().__init__()
        self.around = Around(self.late)

    def features(self, x: Tensor) -> Any:
        return self.around(self.stem(x))


class Around(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.held = [layer]

    def forward(self, x: Tensor) -> Tensor:
        return self.held[0](x).tanh()


class Collects(Untraceable):
    """Modules fill a list that they are given."""

    def __init__(self) -> None:
        super().__init__()
        self.collector = Collector()

    def features(self, x: Tensor) -> Any:
        states: list[Tensor] = []
        x = self.collector(self.stem(x), states)
        return self.late(x) + states[0], len(states)


class Collector(nn.Module):
    def forward(self, x: Tensor, states: list[Tensor]) -> Tensor:
        states.append(x.tanh())
        return x * 2


class SwitchesModes(Untraceable):
    def features(self, x: Tensor) -> Any:
        with torch.no_grad():
            frozen = self.stem(x)
        return self.late(frozen) + self.stem(x)


class Checkpoints(Untraceable):
    def features(self, x: Tensor) -> Any:
        x = self.norm(self.stem(x))
        for block in self.blocks:
            x = checkpoint(block.linear, x, use_reentrant=False)
        return self.late(x)


def net_of(network: nn.Module, layers: list[str]) -> BranchedModule:
    net = branch(network, layers, TASKS)
    assert "cannot be traced" in repr(net)
    return net


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("layers", [["late"], ["blocks.1.linear", "late"], ["blocks.0.norm"]], ids="-".join)
@pytest.mark.parametrize("act", [nn.Tanh, lambda: nn.ReLU(inplace=True)], ids=["tanh", "in place"])
def test_blocks_are_those_of_separate_copies(act: Callable[[], nn.Module], layers: list[str], training: bool) -> None:
    torch.manual_seed(0)
    x = torch.randn(5, 4).double()
    found = differences(still(Untraceable(act)), layers, [x], training, TASKS, calls=3)
    assert max(found.values()) < 1e-12, found


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize(
    "network",
    [
        WritesIntoBlocksOutputs,
        HandsViewsOn,
        CallsAModuleTwice,
        Containers,
        MakesMasks,
        ReadsWhatModulesKeep,
        ReachesABranch,
        Collects,
        SwitchesModes,
        Checkpoints,
    ],
)
def test_what_modules_do_besides_is_that_of_separate_copies(network: type[nn.Module], training: bool) -> None:
    torch.manual_seed(0)
    x = torch.randn(5, 4).double()
    found = differences(still(network()), ["late"], [x], training, TASKS, calls=3)
    assert max(found.values()) < 1e-12, found


@pytest.mark.parametrize(("layers", "calls"), [(["late"], 3), (["blocks.2.linear"], 2 + 3), (["stem"], 9)])
def test_blocks_before_the_branch_run_once(layers: list[str], calls: int) -> None:
    net, x = net_of(Untraceable(), layers), torch.randn(5, 4)
    for mode in (torch.enable_grad, torch.no_grad, torch.inference_mode):
        for _ in range(3):
            Block.calls = 0
            with mode():
                net(x)
        assert Block.calls == calls
    assert net.shared.norm.num_batches_tracked == (9 if layers != ["stem"] else 27)


def test_masks_that_every_task_makes_anew_count_as_one() -> None:
    net, x = net_of(MakesMasks(), ["late"]), torch.randn(5, 4)
    for mode in (torch.enable_grad, torch.no_grad):
        Block.calls = 0
        with mode():
            net(x)
        assert Block.calls == 4


def test_every_tasks_gradient_goes_through_what_is_remembered() -> None:
    torch.manual_seed(0)
    net, x = net_of(still(Untraceable()).eval(), ["late"]).eval(), torch.randn(5, 4).double()
    plain = {task: net.extract(task) for task in TASKS}
    outputs = net(x)
    for i, task in enumerate(TASKS):
        parameters = [parameter for name, parameter in net.shared.named_parameters() if "late" not in name]
        found = torch.autograd.grad(outputs[task].square().sum() * i, parameters, retain_graph=True)
        own = [parameter for name, parameter in plain[task].named_parameters() if "late" not in name]
        for left, right in zip(found, torch.autograd.grad(plain[task](x).square().sum() * i, own), strict=True):
            torch.testing.assert_close(left, right, rtol=0, atol=1e-12)


def test_tasks_share_one_draw_of_dropout_before_the_branch() -> None:
    network = Untraceable(lambda: nn.Dropout(0.5))
    net = net_of(network, ["late"])
    with torch.no_grad():
        for task in TASKS:
            net.branches[task].late.load_state_dict(network.late.state_dict())
    outputs = net(torch.randn(5, 4))
    assert torch.equal(outputs["a"], outputs["c"])
    assert not torch.equal(net(torch.ones(5, 4))["a"], net(torch.ones(5, 4))["a"])


class HasHiddenStates(Untraceable):
    """Captures what blocks and the layers inside them return, by hooks set at the first call, as
    transformers does.
    """

    hooked = False

    def features(self, x: Tensor) -> Any:
        self.states: list[Tensor] = []
        self.norms: list[Tensor] = []
        if not self.hooked:
            self.hooked = True
            for block in self.blocks:
                block.register_forward_hook(self.capture)
                block.norm.register_forward_hook(self.capture_norm)  # type: ignore[union-attr]
        last = self.late(self.pooled(self.stem(x)))
        return Output(last=last, hidden_states=tuple(self.states), norms=tuple(self.norms))

    def pooled(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x

    def capture(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if not self.states:
            self.states.append(inputs[0])
        self.states.append(output)

    def capture_norm(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        self.norms.append(output)


class Encoder(nn.Module):
    def __init__(self, blocks: nn.ModuleList) -> None:
        super().__init__()
        self.blocks = blocks

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x


class HasHiddenStatesOfAnEncoder(HasHiddenStates):
    """All hooks are inside of one module that runs once."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder(self.blocks)

    def pooled(self, x: Tensor) -> Tensor:
        return self.encoder(x)


@pytest.mark.parametrize("network", [HasHiddenStates, HasHiddenStatesOfAnEncoder])
def test_every_task_captures_each_hidden_state_once(network: type[nn.Module]) -> None:
    torch.manual_seed(0)
    net, x = net_of(still(network()).eval(), ["late"]).eval(), torch.randn(5, 4).double()
    for _ in range(2):
        Block.calls = 0
        outputs = net(x)
        assert Block.calls == 3
        for task in TASKS:
            expected = net.extract(task)(x)
            assert len(outputs[task].hidden_states) == 4 and len(outputs[task].norms) == 3
            for left, right in zip(_leaves(outputs[task]), _leaves(expected), strict=True):
                assert torch.equal(left, right)


def _leaves(output: Output) -> list[Tensor]:
    return _pytree.tree_leaves(dict(output))


def test_hooks_that_alter_what_a_layer_returns_are_followed() -> None:
    torch.manual_seed(0)
    net, x = net_of(still(Untraceable()).eval(), ["late"]).eval(), torch.randn(5, 4).double()
    before = net(x)["b"]
    net.shared.blocks[1].norm.register_forward_hook(lambda module, inputs, output: output * 2)
    for _ in range(2):
        outputs = net(x)
        assert not torch.allclose(outputs["b"], before)
        assert all(torch.equal(outputs[task], net.extract(task)(x)) for task in TASKS)


def test_memory_is_released_after_the_call_and_after_an_error() -> None:
    net = net_of(Untraceable(), ["late"])
    seen: list[weakref.ref[Tensor]] = []

    def see(module: nn.Module, inputs: Any, output: Tensor) -> None:
        seen.append(weakref.ref(output))
        if len(seen) > len(TASKS):
            raise KeyError("as asked")

    net.shared.norm.register_forward_hook(see)
    gc.collect()
    gc.disable()
    try:
        with torch.no_grad():
            net(torch.randn(5, 4))
            assert not any(reference() is not None for reference in seen)
            with pytest.raises(KeyError, match="as asked"):
                net(torch.randn(5, 4))
        assert not any(
            "forward" in vars(module) for network in net._networks.follow().values() for module in network.modules()
        )
    finally:
        gc.enable()


def test_batches_that_differ_are_not_taken_for_one_another() -> None:
    net = net_of(Untraceable(), ["late"]).eval()
    plain = net.extract("a")
    with warnings.catch_warnings(action="error"):
        for _ in range(4):
            x = torch.randn(5, 4)
            assert torch.equal(net(x)["a"], plain(x))
