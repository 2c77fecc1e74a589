"""A traced graph in which the shared part runs once, and the rest once per task or group of tasks.

Every node runs once for each group of a partition of the tasks. Tasks are in one group if they
share every copy that the node depends on. Nodes with all tasks in one group, the trunk, run first
and once. Then each task in turn runs its own nodes, without those that an earlier task of the group
has run. So layers that are still shared see the groups' activations in task order.

Writes into memory need care. A node may write only into memory that its own group has for itself.
If the memory is of a larger group, the node clones it first, and every view of it is taken again on
the clone. The same holds for a write for a larger group into memory that a smaller one has read
before, because in the new order the write would overtake the read.
"""

from collections import ChainMap
from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx
from torch.fx.node import map_arg
from torch.utils._pytree import tree_map_only

from recon.branching.graph.memory import memory_of, written
from recon.branching.graph.trace import Trace
from recon.branching.groups import Partition, meet, together
from recon.branching.sharing import Sharing
from recon.branching.values import Untraceable

Values = dict[fx.Node, fx.Node]  # node of the traced graph -> node of the graph for all tasks


@dataclass(frozen=True)
class Division:
    """The nodes of a traced graph that do not run once for all tasks.

    Attributes:
        per_task: These nodes. To each belong the values to clone first, because the node writes
            into their memory.
        partitions: Their partitions of the tasks; the node runs once per group.
        memory: For every node, the nodes that made the memory in which its value lies.
    """

    per_task: dict[fx.Node, list[fx.Node]]
    partitions: dict[fx.Node, Partition]
    memory: dict[fx.Node, set[fx.Node]]

    def groups(self, node: fx.Node) -> int:
        """How often a node runs."""
        return len(set(self.partitions[node])) if node in self.partitions else 1


def divide(trace: Trace, sharing: Sharing) -> Division:
    """Find the nodes of a traced graph that run more than once, and for which groups of tasks.

    Args:
        trace: The traced forward.
        sharing: Which tasks use the same module or tensor of a name.

    Raises:
        Untraceable: The forward writes into a shared tensor that outlives the call; or a module
            that cannot be traced would run more than once, although each task needs its Python
            state for itself.
    """
    everyone = together(len(sharing.tasks))
    per_task: dict[fx.Node, list[fx.Node]] = {}
    partitions: dict[fx.Node, Partition] = {}
    memory: dict[fx.Node, set[fx.Node]] = {}
    private: dict[fx.Node, Partition] = {}  # the groups that have memory for themselves
    read: dict[fx.Node, Partition] = {}  # the groups that have read memory
    for node in trace.graph.nodes:
        reads = _union(memory[source] for source in node.all_input_nodes)
        writes = _union(memory[target] for target in written(node, trace.root))
        memory[node] = memory_of(node, trace.root, memory)
        is_named = node.op in ("call_module", "get_attr")
        groups = meet(
            sharing.of(str(node.target)) if is_named else everyone,
            *(partitions[source] for source in node.all_input_nodes if source in partitions),
            *(private[maker] for maker in reads if maker in private),
            *(read[maker] for maker in writes if maker in read),
        )
        if node.op == "output" or groups == everyone:
            _refuse(maker for maker in writes if maker.target in trace.constants)
            continue
        if node.op == "call_module" and node.target in trace.whole:
            raise Untraceable(f"{node.target!r}, which runs once per task, cannot be traced")
        clones = {maker for maker in writes if private.get(maker) != groups}
        per_task[node] = [maker for maker in memory if maker in clones] if clones else []
        _refuse(maker for maker in per_task[node] if maker.op == "get_attr" or _is_foreign_argument(maker))
        partitions[node] = groups
        private |= dict.fromkeys(writes | (memory[node] & {node}), groups)
        read |= {maker: meet(read.get(maker, everyone), groups) for maker in reads}
    return Division(per_task, partitions, memory)


def _union(sets: Iterable[set[fx.Node]]) -> set[fx.Node]:
    return set().union(*sets)


def _is_foreign_argument(maker: fx.Node) -> bool:
    """Whether this is an argument of unknown structure, whose tensors cannot be copied."""
    return maker.op == "placeholder" and not maker.meta.get("tensor")


def _refuse(written_into: Iterable[fx.Node]) -> None:
    for node in written_into:
        raise Untraceable(f"it writes in place into {node.target!r}, which outlives the call")


def split(trace: Trace, division: Division, sharing: Sharing) -> fx.Graph:
    """Write the graph that computes every task's output.

    Its inputs are the constants of the trace, followed by the inputs of the traced graph. Modules
    and tensors are named ``shared.<path>`` and ``branches.<task>.<path>``. Its output is a
    dictionary task -> output.
    """
    writer = _Writer(trace, division, sharing)
    trunk = writer.trunk()
    *_, output = trace.graph.nodes
    values = [writer.branch(task, trunk) for task in range(len(sharing.tasks))]
    outputs = zip(sharing.tasks, values, strict=True)
    writer.graph.output({task: map_arg(output.args[0], own.__getitem__) for task, own in outputs})
    writer.remove_unused_views()
    return writer.graph


class _Writer:
    """Writes the nodes of a traced graph into a new one.

    The trunk is written once, and all other nodes for each group of tasks.
    """

    def __init__(self, trace: Trace, division: Division, sharing: Sharing) -> None:
        self.graph = fx.Graph()
        self._trace = trace
        self._division = division
        self._sharing = sharing
        self._views: list[fx.Node] = []
        self._written: dict[tuple[fx.Node, int], Values] = {}

    def trunk(self) -> Values:
        constants = {name: self.graph.placeholder(name) for name in self._trace.constants}
        values: Values = {}
        for node in self._trace.graph.nodes:
            if node.op == "get_attr" and node.target in constants:
                values[node] = constants[node.target]
            elif node.op != "output" and node not in self._division.per_task:
                values[node] = self._copy(node, node.name, "shared", values)
        return values

    def branch(self, task: int, trunk: Values) -> Values:
        """The values of a task, given its index; it uses those of earlier tasks of its groups."""
        values = dict(trunk)
        for node in self._division.per_task:
            first = self._division.partitions[node][task]
            if first == task:
                self._written[node, task] = self._write(node, values, self._sharing.tasks[task])
            values |= self._written[node, first]
        return values

    def _write(self, node: fx.Node, values: Values, task: str) -> Values:
        """Write a node for the group of a task; return the values that change by it."""
        changes: Values = {}
        changed = ChainMap(changes, values)
        if clones := self._division.per_task[node]:
            self._make_private(clones, node, changed, task)
        changed[node] = self._copy(node, f"{node.name}_{task}", self._home(node, task), changed)
        return changes

    def _home(self, node: fx.Node, task: str) -> str:
        named = node.op in ("call_module", "get_attr") and self._sharing.is_own(str(node.target))
        return f"branches.{self._sharing.keeper(task, str(node.target))}" if named else "shared"

    def remove_unused_views(self) -> None:
        for view in reversed(self._views):
            if not view.users:
                self.graph.erase_node(view)

    def _make_private(
        self, clones: list[fx.Node], before: fx.Node, values: MutableMapping[fx.Node, fx.Node], task: str
    ) -> None:
        """Clone values of more tasks for a group, and take all views again on the clones."""
        for source in clones:
            values[source] = self.graph.call_function(private_copy, (values[source],))
        for node, makers in self._division.memory.items():
            if node is before:
                return
            if node in clones or not makers.intersection(clones):
                continue
            if targets := written(node, self._trace.root):
                # The write returned its target, whose clone already holds the written values.
                values[node] = values[targets[0]]
            else:
                values[node] = self._copy(node, f"{node.name}_{task}", "shared", values)
                self._views.append(values[node])

    def _copy(self, node: fx.Node, name: str, home: str, values: Mapping[fx.Node, fx.Node]) -> fx.Node:
        target = f"{home}.{node.target}" if node.op in ("call_module", "get_attr") else node.target
        args: Any = map_arg(node.args, values.__getitem__)
        kwargs: Any = map_arg(node.kwargs, values.__getitem__)
        return self.graph.create_node(node.op, target, args, kwargs, name)


def private_copy(value: Any) -> Any:
    """Clone the tensors in a value of any structure."""
    return tree_map_only(torch.Tensor, torch.clone, value)
