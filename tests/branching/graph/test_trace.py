"""What a trace takes in: modules that it cannot enter, NumPy constants, nested inputs and outputs,
types, hooks.
"""

import random
from collections import OrderedDict, defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils import _pytree

from recon.branching import BranchedModule, branch
from recon.branching.call import Call
from recon.branching.graph.program import Program

TASKS = ("left", "right")


def traced(network: nn.Module, layers: list[str]) -> BranchedModule:
    torch.manual_seed(0)
    return branch(network, layers, TASKS)


def operations(net: BranchedModule, *args: Any, **kwargs: Any) -> tuple[int, int]:
    """How many operations run once, and how many once per task."""
    program = net._programs.find(Call.of(net.training, args, kwargs))
    assert isinstance(program, Program)
    return program.trunk, program.per_task


class Decides(nn.Module):
    """Control flow that torch.fx cannot follow."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.inner = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) if x.sum() > 1e9 else self.inner(x).tanh()


class Draws(Decides):
    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) * (2 if random.random() < 2 else 3)


class Switches(Decides):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return self.linear(self.inner(x))


class Counts(Decides):
    steps = 0

    def forward(self, x: Tensor) -> Tensor:
        self.steps = getattr(self, "steps", 0) + 1
        return self.linear(self.inner(x)) * self.steps


class Remembers(Decides):
    def __init__(self) -> None:
        super().__init__()
        self.memory: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.memory.append(self.linear(x))
        return self.inner(sum(self.memory))


@pytest.mark.filterwarnings("error:.*cannot be traced")
@pytest.mark.parametrize("kind", [Decides, Draws, Switches, Counts, Remembers])
def test_module_that_cannot_be_traced_is_one_operation(kind: type[nn.Module]) -> None:
    plain = nn.Sequential(nn.Linear(4, 4), nn.Sequential(kind(), nn.ReLU()), kind(), nn.Linear(4, 4))
    net = traced(plain, ["3"])
    for _ in range(3):  # what it keeps goes on as in the plain network
        x = torch.randn(3, 4)
        want = plain(x)
        assert operations(net, x) == (4, 1)
        outputs = net(x)
        for task in TASKS:
            assert torch.equal(outputs[task], want)


@pytest.mark.parametrize("layers", [["0"], ["1.linear"]])
def test_module_that_cannot_be_traced_behind_a_branch_or_with_one_ends_tracing(layers: list[str]) -> None:
    plain = nn.Sequential(nn.Linear(4, 4), Remembers(), nn.Linear(4, 4))
    with pytest.warns(UserWarning, match="cannot be traced"):
        net = traced(plain, layers)
    for _ in range(3):
        x = torch.randn(3, 4)
        want, outputs = plain(x), net(x)
        assert torch.equal(outputs["left"], want) and torch.equal(outputs["right"], want)


class UsesNumPy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.early, self.late = nn.Linear(4, 4), nn.Linear(4, 4)
        self.scale, self.shift = np.float64(1.5), np.float32(0.25)
        self.order = np.array([3, 1, 0, 2])
        self.size = np.int64(2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.scale * self.early(x) + self.shift
        x = x[:, self.order] / np.sqrt(4.0)
        return self.late(x.view(-1, self.size, np.int32(2)).flatten(1)) ** np.float64(2)


@pytest.mark.filterwarnings("error:.*cannot be traced")
def test_numpy_constants() -> None:
    plain, x = UsesNumPy(), torch.randn(3, 4)
    net = traced(plain, ["late"])
    torch.testing.assert_close(net(x)["left"], plain(x), rtol=0, atol=1e-6)
    net.shared.order = plain.order = np.array([0, 1, 2, 3])
    net.shared.scale = plain.scale = np.float64(3)
    torch.testing.assert_close(net(x)["left"], plain(x), rtol=0, atol=1e-6)


class TakesABatch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.early, self.late = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, batch: dict[str, Any], more: list[Tensor] | None = None, **options: Any) -> Tensor:
        x = self.early(batch["x"])
        if "mask" in batch and batch["mask"] is not None:
            x = x * batch["mask"]
        for name, value in batch.get("extra", {}).items():
            x = x + value if name == "plus" else x - value
        for tensor in more or ():
            x = x * tensor
        return self.late(x) * options.get("scale", 1.0)


@pytest.mark.filterwarnings("ignore:.*cannot be traced")
def test_nested_arguments_are_taken_apart() -> None:
    plain = TakesABatch()
    net = traced(plain, ["late"])
    x, y, z = torch.randn(3, 3, 4)
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
        (({"x": x},), {}),
        (({"x": x, "mask": y},), {}),
        (({"x": x, "mask": None},), {"scale": 2.0}),
        (({"x": x, "mask": y, "extra": {"plus": z}},), {}),
        (({"x": x, "mask": y, "extra": {"minus": z}},), {}),
        (({"x": x}, [y, z]), {}),
        ((), {"batch": {"x": y}, "more": (z,), "scale": 3.0}),
        ((), {"batch": {"x": y}, "more": (z,), "scale": 4.0}),
    ]
    for args, kwargs in calls:
        outputs = net(*args, **kwargs)
        assert torch.equal(outputs["right"], plain(*args, **kwargs))
        assert operations(net, *args, **kwargs)[0] >= 1


class Output(OrderedDict[str, Any]):
    """As the outputs of transformers: a dictionary with attributes, known to PyTorch's trees."""

    def __init__(self, **entries: Any) -> None:
        super().__init__(**entries)
        self.__dict__.update(entries)


class Unregistered(dict[str, Any]):
    pass


@dataclass
class Record:
    features: Tensor
    hidden: tuple[Tensor, ...]
    loss: Tensor | None = None


_pytree.register_pytree_node(
    Output,
    lambda output: (list(output.values()), list(output)),
    lambda values, keys: Output(**dict(zip(keys, values, strict=True))),
)


class Returns(nn.Module):
    def __init__(self, container: Any) -> None:
        super().__init__()
        self.early, self.late = nn.Linear(4, 4), nn.Linear(4, 4)
        self.container = container

    def forward(self, x: Tensor) -> Any:
        early = self.early(x)
        return self.container(features=self.late(early), hidden=(x, early))


@pytest.mark.filterwarnings("error:.*cannot be traced")
@pytest.mark.parametrize("container", [Output, Record, OrderedDict, lambda **kw: defaultdict(int, kw)])
def test_outputs_keep_their_class(container: Any) -> None:
    plain, x = Returns(container), torch.randn(3, 4)
    outputs, want = traced(plain, ["late"])(x), plain(x)
    for output in outputs.values():
        assert type(output) is type(want)
        mine, theirs = (vars(o) if isinstance(o, Record | Output) else o for o in (output, want))
        assert list(mine) == list(theirs)
        assert torch.equal(mine["features"], theirs["features"]) and len(mine["hidden"]) == 2
    assert outputs["left"] is not outputs["right"]


def test_output_of_an_unknown_kind_of_dictionary_keeps_its_class() -> None:
    with pytest.warns(UserWarning, match="hands on a Unregistered"):
        net = traced(Returns(Unregistered), ["late"])
    assert type(net(torch.randn(3, 4))["left"]) is Unregistered


class AsksForTypes(nn.Module):
    """Takes another path for a tensor than for a list, as convolutions on graphs do."""

    def __init__(self) -> None:
        super().__init__()
        self.early, self.late = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor | list[Tensor]) -> Tensor:
        x = self.early(x).relu() if isinstance(x, Tensor) else self.early(x[0])
        x = x * 2 if isinstance(x, Tensor) and not isinstance(x, nn.Parameter | list | tuple) else x
        return self.late(x)


@pytest.mark.filterwarnings("error:.*cannot be traced")
def test_types_are_those_of_tensors() -> None:
    plain, x = AsksForTypes(), torch.randn(3, 4)
    net = traced(plain, ["late"])
    assert torch.equal(net(x)["left"], plain(x))
    assert torch.equal(net([x, x])["left"], plain([x, x]))


class AsksForTheTypeOfParts(AsksForTypes):
    def forward(self, x: Tensor) -> Tensor:
        parts = self.early(x).chunk(2, 1)
        return self.late(torch.cat(list(parts), 1) if isinstance(parts, tuple) else x)


def test_type_that_is_not_known_ends_tracing() -> None:
    plain, x = AsksForTheTypeOfParts(), torch.randn(3, 4)
    with pytest.warns(UserWarning, match="asks for the type of a value that may be no tensor"):
        net = traced(plain, ["late"])
    assert torch.equal(net(x)["left"], plain(x))


class KeepsByHook(nn.Module):
    """Takes features by hooks that are bound to itself."""

    def __init__(self) -> None:
        super().__init__()
        self.early, self.late = nn.Linear(4, 4), nn.Linear(4, 4)
        self.features = {"early": torch.zeros(1, 4)}
        self.early.register_forward_hook(self.keep)

    def keep(self, module: nn.Module, inputs: Any, output: Tensor) -> None:
        self.features["early"] = output

    def forward(self, x: Tensor) -> Tensor:
        self.early(x)
        return self.late(self.features["early"].tanh())


def test_hook_that_changes_what_the_forward_reads_ends_tracing() -> None:
    plain, x = KeepsByHook(), torch.randn(3, 4)
    with pytest.warns(UserWarning, match="a hook of a Linear may change what the forward reads"):
        net = traced(plain, ["late"])
    assert torch.equal(net(x)["left"], plain(x))


@pytest.mark.parametrize("path", ["0", "1"])
def test_hook_that_keeps_what_it_sees_is_called_at_every_step(path: str) -> None:
    """With tensors, not with traced values; a block that it is set on is one operation."""
    seen: list[Any] = []

    def keep(module: nn.Module, inputs: Any, output: Any) -> None:
        seen.append(output)

    plain = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 4), nn.ReLU()), nn.Linear(4, 4))
    plain.get_submodule(path).register_forward_hook(keep)
    net = traced(plain, ["2"])
    for _ in range(3):
        net(torch.randn(3, 4))
    assert len(seen) == 3 and all(type(output) is Tensor for output in seen)


class WritesThroughAnObject(nn.Module):
    """Takes an object whose attribute is a tensor, as a batch of graphs is, and writes into it."""

    def __init__(self) -> None:
        super().__init__()
        self.late = nn.Linear(4, 4)

    def forward(self, data: Any) -> Tensor:
        x = data.x.clone()
        y = self.late(x)
        data.x.add_(y.detach().mean())
        return y + data.x


def test_write_into_what_an_argument_holds_ends_tracing() -> None:
    plain, x = WritesThroughAnObject(), torch.randn(3, 4)
    net = traced(plain, ["late"])
    with pytest.warns(UserWarning, match="writes in place into 'input_0', which outlives the call"):
        outputs = net(_Data(x.clone()))
    assert torch.equal(outputs["left"], plain(_Data(x.clone())))


@dataclass
class _Data:
    x: Tensor
