"""A trace holds as long as what it read in Python is the same."""

import copy
import random
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import MethodType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recon.branching import BranchedModule, branch

TASKS = ("left", "right")


class Block(nn.Module):
    """Reads all kinds of Python state, each of which changes its result."""

    offset = 0.0  # of the class

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.temperature = 1.0
        self.depth = 1
        self.activation = "relu"
        self.function: Callable[[Tensor], Tensor] = torch.tanh
        self.gate: str | None = None
        self.scales = [1.0, 2.0]
        self.options = {"power": {"of": 1.0}}
        self.config = SimpleNamespace(shift=0.0)
        self.slotted = Slotted(1.0)
        self.scaled = partial(torch.mul, other=1.0)
        self.table = torch.ones(4)  # no buffer
        self.drop = nn.Dropout(0.0)
        self.blocks = nn.ModuleList(nn.Linear(4, 4) for _ in range(2))

    @property
    def doubled(self) -> float:
        return self.temperature * 2

    def forward(self, x: Tensor) -> Tensor:
        x = self.drop(self.linear(x) / self.doubled + self.offset)
        for block in self.blocks[: self.depth]:
            x = block(x)
        x = self.scaled(x * self.scales[0] + x.pow(2) * self.scales[1] * self.table)
        x = x * self.options["power"]["of"] + self.config.shift + self.slotted.value
        x = F.relu(x - 1) if self.activation == "relu" else x
        return self.function(x if self.gate is None else -x)


@dataclass(slots=True)
class Slotted:
    value: float


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stage, self.last = Block(), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.stage(x))


def set_item(name: str, *keys: Any) -> Callable[[Any], None]:
    def change(block: Any) -> None:
        held = getattr(block, name)
        for key in keys[:-2]:
            held = held[key]
        held[keys[-2]] = keys[-1]

    return change


CHANGES: dict[str, Callable[[Any], None]] = {
    "number": lambda block: setattr(block, "temperature", 3.0),
    "number that slices modules": lambda block: setattr(block, "depth", 2),
    "string": lambda block: setattr(block, "activation", "none"),
    "None": lambda block: setattr(block, "gate", "closed"),
    "function": lambda block: setattr(block, "function", torch.sin),
    "list item": set_item("scales", 0, 5.0),
    "nested dictionary": set_item("options", "power", "of", 4.0),
    "attribute of an object": lambda block: setattr(block.config, "shift", 2.0),
    "slot of an object": lambda block: setattr(block.slotted, "value", 2.0),
    "other object": lambda block: setattr(block, "config", SimpleNamespace(shift=1.0)),
    "partial function": lambda block: setattr(block, "scaled", partial(torch.mul, other=3.0)),
    "attribute that hides the class's": lambda block: setattr(block, "offset", 2.0),
    "tensor that is no buffer": lambda block: setattr(block, "table", torch.full((4,), 3.0)),
    "write into a tensor that is no buffer": lambda block: block.table.mul_(2),
    "module of the same kind": lambda block: setattr(block, "linear", scaled_linear()),
    "module entered": lambda block: block.blocks.__setitem__(0, nn.Sequential(scaled_linear(), nn.Tanh())),
    "forward of a block": lambda block: setattr(block, "forward", MethodType(lambda own, x: own.linear(x), block)),
    "hook on a block": lambda block: block.register_forward_hook(lambda module, args, output: output * 2),
}


def scaled_linear() -> nn.Linear:
    linear = nn.Linear(4, 4)
    torch.nn.init.constant_(linear.weight, 0.5)
    return linear


def branched() -> tuple[Network, BranchedModule]:
    torch.manual_seed(0)
    plain = Network().eval()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return plain, branch(plain, ["last"], TASKS)


@pytest.mark.filterwarnings("error:.*cannot be traced")
@pytest.mark.parametrize("name", CHANGES)
def test_change_of_the_shared_network_is_seen(name: str) -> None:
    plain, net = branched()
    x = torch.randn(3, 4)
    before = net(x)["left"]
    torch.testing.assert_close(before, plain(x))
    for network in (plain.stage, net.shared.get_submodule("stage")):
        torch.manual_seed(1)
        CHANGES[name](network)
    assert not torch.allclose(plain(x), before)
    for task in TASKS:
        torch.testing.assert_close(net(x)[task], plain(x))


@pytest.mark.filterwarnings("error:.*cannot be traced")
def test_change_of_a_class_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, net = branched()
    x = torch.randn(3, 4)
    monkeypatch.setattr(Block, "offset", 2.0)
    torch.testing.assert_close(net(x)["left"], plain(x))


SCALE = 1.0
OPTIONS = SimpleNamespace(shift=0.0)
TABLE = {"power": 1.0}


def scaled_by_a_global(x: Tensor) -> Tensor:
    return x * SCALE


def closing_over(factor: float) -> tuple[Callable[[Tensor], Tensor], Callable[[float], None]]:
    def scale(x: Tensor) -> Tensor:
        return x * factor

    def change(value: float) -> None:
        nonlocal factor
        factor = value

    return scale, change


class ReadsAround(nn.Module):
    def __init__(self, scale: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.early, self.late = nn.Linear(4, 4), nn.Linear(4, 4)
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        x = scaled_by_a_global(self.scale(self.early(x))) + OPTIONS.shift
        return self.late(torch.stack([x * TABLE["power"] for _ in range(2)]).sum(0))


@pytest.mark.filterwarnings("error:.*cannot be traced")
@pytest.mark.parametrize("what", ["global", "attribute of a global", "item of a global", "closure"])
def test_change_of_a_variable_outside_is_seen(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    scale, change_factor = closing_over(1.0)
    plain, x = ReadsAround(scale), torch.randn(3, 4)
    net = branch(plain, ["late"], TASKS)
    before = net(x)["left"]
    if what == "global":
        monkeypatch.setattr(sys.modules[__name__], "SCALE", 3.0)
    elif what == "attribute of a global":
        monkeypatch.setattr(OPTIONS, "shift", 3.0)
    elif what == "item of a global":
        monkeypatch.setitem(TABLE, "power", 3.0)
    else:
        change_factor(3.0)
    assert not torch.allclose(plain(x), before)
    torch.testing.assert_close(net(x)["left"], plain(x))


STEPS = 0


class SetsAGlobal(ReadsAround):
    def forward(self, x: Tensor) -> Tensor:
        global STEPS  # noqa: PLW0603
        STEPS += 1
        return self.late(self.early(x)) * STEPS


def test_forward_that_sets_a_variable_outside_is_not_traced() -> None:
    with pytest.warns(UserWarning, match="sets the variable 'STEPS' outside of itself"):
        net = branch(SetsAGlobal(torch.tanh), ["late"], TASKS)
    assert STEPS == 0
    net(torch.randn(3, 4))
    assert STEPS == 2


def traces_of(net: BranchedModule, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    written: list[Any] = []
    write = net._trace
    monkeypatch.setattr(net, "_trace", lambda call: written.append(call) or write(call))
    return written


def test_state_that_comes_back_is_not_traced_again(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, net = branched()
    x = torch.randn(3, 4)
    written = traces_of(net, monkeypatch)
    for depth in (1, 2, 1, 2, 1, 2):
        for network in (plain.stage, net.shared.get_submodule("stage")):
            network.depth = depth  # type: ignore[assignment]
        torch.testing.assert_close(net(x)["right"], plain(x))
    assert len(written) == 1


@pytest.mark.filterwarnings("error:.*cannot be traced")
def test_schedule_is_read_at_every_call(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, net = branched()
    x = torch.randn(3, 4)
    written = traces_of(net, monkeypatch)
    for step in range(20):
        for network in (plain.stage, net.shared.get_submodule("stage")):
            network.temperature = 1 + step / 7  # type: ignore[assignment]
        torch.testing.assert_close(net(x)["right"], plain(x))
    assert len(written) == 2
    assert torch.equal(copy.deepcopy(net)(x)["left"], net(x)["left"])


def test_number_that_decides_the_way_and_always_changes_ends_tracing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Warmup(Network):
        step = 0

        def forward(self, x: Tensor) -> Tensor:
            return self.last(x * 0.5 if self.step < 12 else x)

    torch.manual_seed(0)
    plain, x = Warmup(), torch.randn(3, 4)
    net = branch(plain, ["last"], TASKS)
    written = traces_of(net, monkeypatch)
    with pytest.warns(UserWarning, match=r"cannot be traced \(its attribute 'step' changes from call to call\)"):
        for step in range(16):
            plain.step = net.shared.step = step
            assert torch.equal(net(x)["left"], plain(x))
    assert len(written) == 8


class Frozen(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 8)

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(self.linear(x), 0.5, self.training)


@pytest.mark.filterwarnings("error:.*cannot be traced")
def test_stage_keeps_its_own_mode() -> None:
    torch.manual_seed(0)
    net, x = branch(nn.Sequential(Frozen(), nn.Linear(8, 4)), ["1"], TASKS).train(), torch.randn(8, 4)
    assert not torch.equal(net(x)["left"], net(x)["left"])
    net.shared.get_submodule("0").eval()
    assert torch.equal(net(x)["left"], net(x)["left"])
    net.eval().shared.get_submodule("0").train()
    assert not torch.equal(net(x)["left"], net(x)["left"])
    net.eval()
    assert torch.equal(net(x)["left"], net(x)["left"])


@pytest.mark.filterwarnings("error:.*cannot be traced")
def test_backbone_with_a_stage_in_evaluation_is_branched_as_it_is() -> None:
    torch.manual_seed(0)
    plain, x = nn.Sequential(Frozen(), nn.Linear(8, 4)), torch.randn(8, 4)
    plain[0].eval()
    assert torch.equal(branch(plain, ["1"], TASKS)(x)["left"], plain(x))


@pytest.mark.filterwarnings("error:.*cannot be traced")
def test_dropout_that_stops_dropping_hands_on_its_input() -> None:
    """Then a write in place behind it writes into what stands before it."""

    class DropsThenWrites(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.drop, self.last = nn.Linear(4, 4), nn.Dropout(0.5), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x)
            y = self.drop(x)
            y += self.last(x)
            return x * y

    torch.manual_seed(0)
    plain, x = DropsThenWrites(), torch.randn(3, 4)
    net = branch(plain, ["last"], TASKS)
    for network in (plain, net.shared):
        network.get_submodule("drop").eval()
    for task in TASKS:
        assert torch.equal(net(x)[task], plain(x))


class Changing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 4)
        self.held: Any = self.initial()

    def initial(self) -> Any:
        return None


class RemembersInAList(Changing):
    def initial(self) -> Any:
        return []

    def forward(self, x: Tensor) -> Tensor:
        self.held.append(self.first(x).detach())
        return self.last(sum(self.held[-3:]) / len(self.held[-3:]))


class CountsInADictionary(Changing):
    def initial(self) -> Any:
        return {"step": 0}

    def forward(self, x: Tensor) -> Tensor:
        self.held["step"] += 1
        return self.last(self.first(x)) * self.held["step"]


class CountsInAnObject(Changing):
    def initial(self) -> Any:
        return SimpleNamespace(step=0)

    def forward(self, x: Tensor) -> Tensor:
        self.held.step += 1
        return self.last(self.first(x)) * self.held.step


class StartsWithNone(Changing):
    def forward(self, x: Tensor) -> Tensor:
        self.held = 1 if self.held is None else self.held + 1
        return self.last(self.first(x)) * self.held


class SetsWhatItMissed(Changing):
    def forward(self, x: Tensor) -> Tensor:
        self.step = getattr(self, "step", 0) + 1
        return self.last(self.first(x)) * self.step


class DrawsFromItsOwnGenerator(Changing):
    def initial(self) -> Any:
        return random.Random(0)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x)) * self.held.random()


@pytest.mark.parametrize(
    "kind",
    [
        RemembersInAList,
        CountsInADictionary,
        CountsInAnObject,
        StartsWithNone,
        SetsWhatItMissed,
        DrawsFromItsOwnGenerator,
    ],
)
def test_forward_that_changes_its_state_is_not_traced(kind: type[Changing]) -> None:
    torch.manual_seed(0)
    plain = kind()
    with pytest.warns(UserWarning, match="cannot be traced"):
        net = branch(plain, ["last"], TASKS)
    for _ in range(4):
        x = torch.randn(3, 4)
        want = plain(x)
        outputs = net(x)
        for task in TASKS:
            assert torch.equal(outputs[task], want)


@pytest.mark.filterwarnings("error:.*cannot be traced")
def test_guard_does_not_break_the_graph_of_compiled_code() -> None:
    class Simple(nn.Module):
        scale = 2.0

        def __init__(self) -> None:
            super().__init__()
            self.stage, self.last = Frozen(), nn.Linear(8, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.stage(x)) * self.scale

    torch.manual_seed(0)
    plain, x = Simple().eval(), torch.randn(3, 4)
    compiled = torch.compile(branch(plain, ["last"], TASKS), backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x)["left"], plain(x))


@pytest.mark.filterwarnings("error:.*cannot be traced")
def test_change_is_seen_in_compiled_code() -> None:
    plain, net = branched()
    x = torch.randn(3, 4)
    compiled = torch.compile(net, backend="eager")
    torch.testing.assert_close(compiled(x)["left"], plain(x))
    for name in ("number", "list item", "attribute of an object"):
        for network in (plain.stage, net.shared.get_submodule("stage")):
            CHANGES[name](network)
        torch.testing.assert_close(compiled(x)["left"], plain(x))
