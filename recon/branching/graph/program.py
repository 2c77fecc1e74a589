"""A generated function that runs a branched network in one way of calling it."""

import itertools
import linecache
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx, nn

from recon.branching.call import Call
from recon.branching.graph.split import divide, split
from recon.branching.graph.trace import Failed, Trace, reason_of, trace
from recon.branching.layers import Cut
from recon.branching.reads.guard import Guard, Homes, guard, reads_of_memory
from recon.branching.reads.reads import Dependencies, Name
from recon.branching.values import Untraceable

_numbers = itertools.count()


@dataclass(frozen=True)
class Program:
    """A function of the branched network, of tensors that the backbone's forward makes, and of the call's variables.

    Attributes:
        guard: What of the network's Python state must be as it was for the function to be right.
        forward: The function; it finds modules and tensors as ``shared.<path>`` and ``branches.<task>.<path>``.
        constants: Its first arguments after the network.
        code: Its source.
        trunk: How many operations run once.
        per_task: How many operations run once per task.
        first: The first of these.
    """

    guard: Guard
    forward: Callable[..., dict[str, Any]]
    constants: tuple[Tensor, ...]
    code: str
    trunk: int
    per_task: int
    first: str


@dataclass(frozen=True)
class Refusal:
    """That there is no program.

    Attributes:
        guard: What of the network's Python state must be as it was for that to be so.
        reason: Why.
    """

    guard: Guard
    reason: str


def write_program(
    network: nn.Module, call: Call, cut: Cut, tasks: tuple[str, ...], homes: Homes, opened: Collection[Name] = ()
) -> Program | Refusal:
    """Trace one task's network and write the program for all tasks.

    Args:
        network: A network of the backbone's class with one task's copies.
        call: The way of calling it.
        cut: What every task has for itself.
        tasks: The tasks.
        homes: Path in the backbone -> the modules that stand for it in the branched network.
        opened: The numbers among the attributes to read at every call instead of baking them in.
    """
    try:
        traced = trace(network, call, cut.touched, opened)
    except Failed as failure:
        return _refuse(str(failure), failure.dependencies, homes)
    try:
        return _write(traced, cut, tasks, homes)
    except Exception as error:
        return _refuse(reason_of(error), traced.dependencies, homes)


def _refuse(reason: str, dependencies: Dependencies, homes: Homes) -> Refusal:
    try:
        return Refusal(guard(dependencies, homes), reason)
    except Untraceable:  # what cannot be watched is not tried again
        return Refusal(Guard(), reason)


def _write(traced: Trace, cut: Cut, tasks: tuple[str, ...], homes: Homes) -> Program:
    division = divide(traced, cut.is_own)
    forward, code = _function(split(traced, division, tasks, cut.is_own))
    operations = [node for node in traced.graph.nodes if node.op.startswith("call")]
    per_task = [node for node in operations if node in division.per_task]
    return Program(
        guard(traced.dependencies, homes, reads_of_memory(traced.graph, traced.root)),
        forward,
        tuple(traced.constants.values()),
        code,
        len(operations) - len(per_task),
        len(per_task),
        str(per_task[0].target if per_task[0].op == "call_module" else per_task[0].name) if per_task else "",
    )


def _function(graph: fx.Graph) -> tuple[Callable[..., dict[str, Any]], str]:
    """The function that a graph stands for, and its source.

    No GraphModule: it would keep references to tensors that ``.to(device)`` replaces, and to networks long deleted.
    """
    source = graph.python_code("self")
    name = f"<branched network {next(_numbers)}>"
    linecache.cache[name] = (len(source.src), None, source.src.splitlines(keepends=True), name)  # for tracebacks
    namespace = dict(source.globals)
    exec(compile(source.src, name, "exec"), namespace)
    return namespace["forward"], source.src
