"""The price of each layer to branch, known before anything is branched.

A branched layer has one more copy of its parameters for each task beyond the first. Its price in
operations lies behind it: every operation that depends on a branched layer runs once per task. So
operations have no price of their own for each layer. The first layer of a chain makes the whole
chain run once per task, and all layers behind it then cost none.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.utils.flop_counter import FlopCounterMode

from recon.branching.call import Call, variables
from recon.branching.copying import deep_copy, without_wrappers
from recon.branching.graph.split import Division, divide
from recon.branching.graph.trace import Trace, in_mode, trace
from recon.branching.groups import Groups, Partition, layer_partitions
from recon.branching.layers import cut, layer_paths
from recon.branching.sharing import sharing
from recon.branching.values import Untraceable
from recon.gradients.layers import all_layers


@dataclass(frozen=True)
class Prices:
    """The cost of branching any set of layers, relative to the network without these branches.

    Attributes:
        parameters: Layer -> the parameters that its copies add.
        plain_parameters: Parameters of the layers that tasks share, before any branching.
        flops: Layers -> the operations that are added if one or more of them are branched, for
            groups of operations behind the same layers. Empty if they are not known.
        plain_flops: Operations of a forward that serves all tasks, before any branching; 0 if they
            are not known. A multiply-add is two.

    Example:
        >>> behind = {frozenset({"0"}): 64, frozenset({"0", "2"}): 32}
        >>> prices = Prices({"0": 40, "2": 18}, 58, behind, 96)
        >>> prices.growth(["2"])
        (0.3103448275862069, 0.3333333333333333)
    """

    parameters: Mapping[str, int]
    plain_parameters: int
    flops: Mapping[frozenset[str], int]
    plain_flops: int

    def parameters_of(self, layers: Iterable[str]) -> int:
        """The parameters that the copies of these layers add."""
        return sum(self.parameters[layer] for layer in layers)

    def flops_of(self, layers: Iterable[str]) -> int:
        """The operations of a forward that branching these layers adds."""
        branched = set(layers)
        return sum(added for behind, added in self.flops.items() if not behind.isdisjoint(branched))

    def growth(self, layers: Sequence[str]) -> tuple[float, float]:
        """The growth of parameters and of operations if these layers are branched.

        Args:
            layers: The layers.

        Returns:
            Two shares: 0.05 is +5 %.
        """
        return (
            self.parameters_of(layers) / max(self.plain_parameters, 1),
            self.flops_of(layers) / max(self.plain_flops, 1),
        )


def layer_prices(
    backbone: nn.Module,
    layers: Sequence[str],
    tasks: Sequence[str],
    *inputs: Any,
    groups: Mapping[str, Groups] | None = None,
) -> Prices:
    """Find the prices of layers. They equal the growth of the network that is really branched.

    Args:
        backbone: The network before branching; it stays as it is.
        layers: The layers that may be branched, one copy per task.
        tasks: The K tasks.
        *inputs: An example of its inputs, on its device. Without one the operations stay unknown.
        groups: Layers that are branched in any case, with their groups of tasks, such as a
            backbone's task-specific layers; they belong to the plain network.

    Raises:
        ValueError: A layer is unknown, or the network cannot be traced, so that its operations have
            no order that is known beforehand.

    Example:
        >>> backbone = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> prices = layer_prices(backbone, ["0", "2"], ["seg", "depth"], torch.zeros(1, 4))
        >>> prices.growth(["2"]), prices.growth(["0"])
        ((0.3103448275862069, 0.3333333333333333), (0.6896551724137931, 1.0))
    """
    backbone = deep_copy(without_wrappers(backbone)).eval()
    given = dict(groups or {})
    parameters, shared = _parameters(backbone, layers, tasks, given)
    if not inputs:
        return Prices(parameters, shared, {}, 0)
    call = Call.of(False, inputs, {})
    try:
        flops, plain = _flops(backbone, layers, tasks, given, call, inputs)
    except Untraceable as error:
        raise ValueError(
            f"the operations behind each layer of {type(backbone).__name__} are not known, because it cannot be traced "
            f"({error}); give a budget of parameters or a number of layers instead of FLOPs"
        ) from error
    return Prices(parameters, shared, flops, plain)


def _parameters(
    backbone: nn.Module, layers: Sequence[str], tasks: Sequence[str], given: Mapping[str, Groups]
) -> tuple[dict[str, int], int]:
    """Layer -> the parameters that its copies add; and the parameters of all shared layers."""
    sizes = {layer: sum(p.numel() for p in own) for layer, own in all_layers(backbone).items()}
    copies = {layer: len(own) for layer, own in given.items()}
    layer_paths(backbone, layers)
    added = {layer: (len(tasks) - copies.get(layer, 1)) * sizes[layer] for layer in layers}
    return added, sum(size for layer, size in sizes.items() if layer not in given)


def _flops(
    backbone: nn.Module,
    layers: Sequence[str],
    tasks: Sequence[str],
    given: Mapping[str, Groups],
    call: Call,
    inputs: tuple[Any, ...],
) -> tuple[dict[frozenset[str], int], int]:
    """Layers -> the operations added if one of them is branched; and those before branching."""
    touched = cut(backbone, layer_paths(backbone, list({**dict.fromkeys(layers), **given}))).touched
    traced = trace(in_mode(backbone, False), call, touched)
    operations = _operations(traced, variables(inputs, {}))
    before = _divide(backbone, traced, layer_partitions([*given], tuple(tasks), given), tuple(tasks))
    behind = _layers_before(backbone, traced, layers)
    added: dict[frozenset[str], int] = defaultdict(int)
    for node, count in operations.items():
        added[behind.get(node, frozenset())] += (len(tasks) - before.groups(node)) * count
    plain = sum(before.groups(node) * count for node, count in operations.items())
    return {own: count for own, count in added.items() if own and count}, plain


def _layers_before(backbone: nn.Module, traced: Trace, layers: Sequence[str]) -> dict[fx.Node, frozenset[str]]:
    """Node -> the layers of which each makes it run once per task.

    One division finds all: as if every layer were a task that has a copy of that layer alone,
    beside one task without any.
    """
    tasks = ("", *layers)
    own = {
        layer: tuple(place if place == index else 0 for index in range(len(tasks)))
        for place, layer in enumerate(layers, start=1)
    }
    partitions = _divide(backbone, traced, own, tasks).partitions
    return {
        node: frozenset(layer for layer, first in zip(tasks, partition, strict=True) if first)
        for node, partition in partitions.items()
    }


def _divide(
    backbone: nn.Module, traced: Trace, partitions: Mapping[str, Partition], tasks: tuple[str, ...]
) -> Division:
    """Find the operations that run more than once if layers are branched by these partitions."""
    branched = dict(zip(layer_paths(backbone, [*partitions]), partitions.values(), strict=True))
    return divide(traced, sharing(backbone, cut(backbone, [*branched]), branched, {}, tasks))


def _operations(traced: Trace, inputs: Sequence[Any]) -> dict[fx.Node, int]:
    """Node -> its floating-point operations, for nodes that have some."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        interpreter = _Counter(traced, counter)
        interpreter.run(*inputs)
    return interpreter.operations


class _Counter(fx.Interpreter):
    """Runs a traced graph and counts the operations of each node."""

    def __init__(self, traced: Trace, counter: FlopCounterMode) -> None:
        super().__init__(traced.root, graph=traced.graph)
        self._counter = counter
        self.operations: dict[fx.Node, int] = {}

    def run_node(self, n: fx.Node) -> Any:
        before = self._counter.get_total_flops()
        result = super().run_node(n)
        if count := self._counter.get_total_flops() - before:
            self.operations[n] = count
        return result
