"""A traced graph in which the shared part runs once, and the rest once per task.

A node is per-task if it uses a branched layer or another per-task value. All other nodes, the
trunk, run first and once. Then each task in turn runs its own nodes, so layers that are still
shared see the tasks' activations in task order.

Writes into memory need care. A per-task node may write only into memory that its task owns. If the
memory is still shared, the task clones it first, and every view of it is taken again on the clone.
The same holds for a write of the trunk into memory that a per-task node has read before, because in
the new order the trunk would overtake it.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx
from torch.fx.node import map_arg
from torch.utils._pytree import tree_map_only

from recon.branching.graph.memory import memory_of, written
from recon.branching.graph.trace import Trace
from recon.branching.values import Untraceable

Values = dict[fx.Node, fx.Node]  # node of the traced graph -> node of the graph for all tasks


@dataclass(frozen=True)
class Division:
    """The nodes of a traced graph that are per task.

    Attributes:
        per_task: The nodes that run once per task. To each belong the shared values to clone first,
            because the node writes into their memory.
        memory: For every node, the nodes that made the memory in which its value lies.
    """

    per_task: dict[fx.Node, list[fx.Node]]
    memory: dict[fx.Node, set[fx.Node]]


def divide(trace: Trace, is_own: Callable[[str], bool]) -> Division:
    """Find the per-task nodes of a traced graph.

    Args:
        trace: The traced forward.
        is_own: Whether every task has its own module or tensor of a name.

    Raises:
        Untraceable: The forward writes into a shared tensor that outlives the call; or a module
            that cannot be traced would run once per task, although each task needs its Python state
            for itself.
    """
    per_task: dict[fx.Node, list[fx.Node]] = {}
    memory: dict[fx.Node, set[fx.Node]] = {}
    private: set[fx.Node] = set()  # the memory that every task owns
    read: set[fx.Node] = set()  # the memory that a per-task node has read
    for node in trace.graph.nodes:
        reads = _union(memory[source] for source in node.all_input_nodes)
        writes = _union(memory[target] for target in written(node, trace.root))
        memory[node] = memory_of(node, trace.root, memory)
        uses_branch = node.op in ("call_module", "get_attr") and is_own(str(node.target))
        uses_task = any(source in per_task for source in node.all_input_nodes) or bool(reads & private)
        if node.op == "output" or not (uses_branch or uses_task or writes & read):
            _refuse(maker for maker in writes if maker.target in trace.constants)
            continue
        if node.op == "call_module" and node.target in trace.whole:
            raise Untraceable(f"{node.target!r}, which runs once per task, cannot be traced")
        clones = writes - private
        per_task[node] = [maker for maker in memory if maker in clones] if clones else []
        _refuse(maker for maker in per_task[node] if maker.op == "get_attr" or _is_foreign_argument(maker))
        private |= writes | (memory[node] & {node})
        read |= reads
    return Division(per_task, memory)


def _union(sets: Iterable[set[fx.Node]]) -> set[fx.Node]:
    return set().union(*sets)


def _is_foreign_argument(maker: fx.Node) -> bool:
    """Whether this is an argument of unknown structure, whose tensors cannot be copied."""
    return maker.op == "placeholder" and not maker.meta.get("tensor")


def _refuse(written_into: Iterable[fx.Node]) -> None:
    for node in written_into:
        raise Untraceable(f"it writes in place into {node.target!r}, which outlives the call")


def split(trace: Trace, division: Division, tasks: Sequence[str], is_own: Callable[[str], bool]) -> fx.Graph:
    """Write the graph that computes every task's output.

    Its inputs are the constants of the trace, followed by the inputs of the traced graph. Modules
    and tensors are named ``shared.<path>`` and ``branches.<task>.<path>``. Its output is a
    dictionary task -> output.
    """
    writer = _Writer(trace, division, is_own)
    trunk = writer.trunk()
    *_, output = trace.graph.nodes
    writer.graph.output({task: map_arg(output.args[0], writer.branch(task, trunk).__getitem__) for task in tasks})
    writer.remove_unused_views()
    return writer.graph


class _Writer:
    """Writes the nodes of a traced graph into a new one.

    The trunk is written once, and the per-task nodes for each task.
    """

    def __init__(self, trace: Trace, division: Division, is_own: Callable[[str], bool]) -> None:
        self.graph = fx.Graph()
        self._trace = trace
        self._division = division
        self._is_own = is_own
        self._views: list[fx.Node] = []

    def trunk(self) -> Values:
        constants = {name: self.graph.placeholder(name) for name in self._trace.constants}
        values: Values = {}
        for node in self._trace.graph.nodes:
            if node.op == "get_attr" and node.target in constants:
                values[node] = constants[node.target]
            elif node.op != "output" and node not in self._division.per_task:
                values[node] = self._copy(node, node.name, "shared", values)
        return values

    def branch(self, task: str, trunk: Values) -> Values:
        values = dict(trunk)
        for node, clones in self._division.per_task.items():
            if clones:
                self._make_private(clones, node, values, task)
            home = f"branches.{task}" if self._is_own(str(node.target)) else "shared"
            values[node] = self._copy(node, f"{node.name}_{task}", home, values)
        return values

    def remove_unused_views(self) -> None:
        for view in reversed(self._views):
            if not view.users:
                self.graph.erase_node(view)

    def _make_private(self, clones: list[fx.Node], before: fx.Node, values: Values, task: str) -> None:
        """Clone shared values for a task, and take all views of them again on the clones."""
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

    def _copy(self, node: fx.Node, name: str, home: str, values: Values) -> fx.Node:
        target = f"{home}.{node.target}" if node.op in ("call_module", "get_attr") else node.target
        args: Any = map_arg(node.args, values.__getitem__)
        kwargs: Any = map_arg(node.kwargs, values.__getitem__)
        return self.graph.create_node(node.op, target, args, kwargs, name)


def private_copy(value: Any) -> Any:
    """Clone the tensors in a value of any structure."""
    return tree_map_only(torch.Tensor, torch.clone, value)
