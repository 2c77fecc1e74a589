"""A traced graph in which what tasks share runs once, and the rest once per task.

A node is per-task if it uses a branched layer or another per-task value. All other nodes, the trunk, run first and
once; then one task after the other runs its own nodes: layers still shared see the tasks' activations in task order.

Writes into memory need care. A per-task node may write only into memory that its task has for itself: if the memory is
still shared, the task clones it first, and every view of it is taken again on the clone. The same holds for a write of
the trunk into memory that a per-task node has read before, for in the new order the trunk would overtake it.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.fx.node import map_arg
from torch.utils._pytree import tree_map_only

from recon.branching.memory import memory_of, written
from recon.branching.trace import Trace, Untraceable


def private_copy(value: Any) -> Any:
    """Clone the tensors in a value, whatever its structure."""
    return tree_map_only(torch.Tensor, torch.clone, value)


@dataclass
class Division:
    """Which nodes of a graph are per task.

    Attributes:
        per_task: The nodes that run once per task.
        memory: For every node, the nodes that made the memory its value lies in.
        clones: For some per-task nodes, the shared values to clone before they run: they write into their memory.
    """

    per_task: dict[fx.Node, None]
    memory: dict[fx.Node, set[fx.Node]]
    clones: dict[fx.Node, list[fx.Node]]


def divide(trace: Trace, is_own: Callable[[str], bool]) -> Division:
    """Find the per-task nodes of a traced graph.

    Args:
        trace: The traced forward.
        is_own: Whether every task has its own module or tensor of a name.

    Raises:
        Untraceable: If the forward writes into a tensor that outlives the call and that tasks share.
    """
    division = Division({}, {}, {})
    memory, per_task = division.memory, division.per_task
    private: set[fx.Node] = set()
    read_per_task: set[fx.Node] = set()
    order = {node: i for i, node in enumerate(trace.graph.nodes)}
    for node in trace.graph.nodes:
        reads = _union(memory[source] for source in node.all_input_nodes)
        writes = _union(memory[target] for target in written(node, trace.root))
        memory[node] = memory_of(node, trace.root, memory)
        uses_branch = node.op in ("call_module", "get_attr") and is_own(str(node.target))
        depends = any(source in per_task for source in node.all_input_nodes) or reads & private
        if node.op == "output" or not (uses_branch or depends or writes & read_per_task):
            _refuse_lasting(w for w in writes if w.target in trace.constants)
            continue
        per_task[node] = None
        division.clones[node] = sorted(writes - private, key=order.__getitem__)
        _refuse_lasting(w for w in division.clones[node] if w.op == "get_attr")
        private |= writes | (memory[node] & {node})
        read_per_task |= reads
    return division


def split(trace: Trace, division: Division, tasks: Sequence[str], is_own: Callable[[str], bool]) -> fx.Graph:
    """Write the graph that computes every task's output.

    Its inputs are the constants of the trace and then the inputs of the traced graph. Modules and tensors are named
    ``shared.<path>`` and ``branches.<task>.<path>``. Its output is a dictionary task -> output.
    """
    graph = fx.Graph()
    constants = {name: graph.placeholder(name) for name in trace.constants}
    *nodes, output = trace.graph.nodes
    trunk: dict[fx.Node, fx.Node] = {}
    for node in nodes:
        if node.op == "get_attr" and node.target in constants:
            trunk[node] = constants[node.target]
        elif node not in division.per_task:
            trunk[node] = _copy(graph, node, node.name, f"shared.{node.target}", trunk)
    outputs = {}
    views: list[fx.Node] = []
    for task in tasks:
        values = dict(trunk)
        for node in division.per_task:
            if clones := division.clones[node]:
                views += _make_private(graph, clones, node, division, trace.root, values, task)
            home = f"branches.{task}" if is_own(str(node.target)) else "shared"
            values[node] = _copy(graph, node, f"{node.name}_{task}", f"{home}.{node.target}", values)
        outputs[task] = map_arg(output.args[0], values.__getitem__)
    graph.output(outputs)
    for view in reversed(views):
        if not view.users:
            graph.erase_node(view)
    return graph


def _make_private(
    graph: fx.Graph,
    clones: list[fx.Node],
    before: fx.Node,
    division: Division,
    root: nn.Module,
    values: dict[fx.Node, fx.Node],
    task: str,
) -> list[fx.Node]:
    """Clone shared memory for a task, and take all views of it again on the clone; return these views."""
    views = []
    for source in clones:
        values[source] = graph.call_function(private_copy, (values[source],))
    for node, makers in division.memory.items():
        if node is before:
            break
        if node in clones or not makers.intersection(clones):
            continue
        if targets := written(node, root):
            # It returned its target, whose clone already holds what it wrote.
            values[node] = values[targets[0]]
        else:
            values[node] = _copy(graph, node, f"{node.name}_{task}", f"shared.{node.target}", values)
            views.append(values[node])
    return views


def _copy(graph: fx.Graph, node: fx.Node, name: str, path: str, values: dict[fx.Node, fx.Node]) -> fx.Node:
    target = path if node.op in ("call_module", "get_attr") else node.target
    args: Any = map_arg(node.args, values.__getitem__)
    kwargs: Any = map_arg(node.kwargs, values.__getitem__)
    return graph.create_node(node.op, target, args, kwargs, name)


def _union(sets: Iterable[set[fx.Node]]) -> set[fx.Node]:
    return set().union(*sets)


def _refuse_lasting(nodes: Iterable[fx.Node]) -> None:
    for node in nodes:
        raise Untraceable(f"it writes in place into {node.target!r}, which outlives the call")
