"""A generated function that runs a branched network in one way of calling it."""

import itertools
import linecache
import warnings
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
from recon.branching.sharing import Sharing
from recon.branching.values import Untraceable

_numbers = itertools.count()


@dataclass(frozen=True)
class Program:
    """A function of the branched network that runs it in one way of calling it.

    Its arguments are the network, the tensors that the backbone's forward makes, and the variables
    of the call.

    Attributes:
        guard: The Python state of the network for which the function is right.
        forward: The function; it finds modules and tensors as ``shared.<path>`` and
            ``branches.<task>.<path>``.
        constants: Its first arguments after the network.
        code: Its source.
        trunk: The number of operations that run once.
        per_task: The number of operations that run once per task or group of tasks.
        runs: How often these run, together.
        first: The first of these.
    """

    guard: Guard
    forward: Callable[..., dict[str, Any]]
    constants: tuple[Tensor, ...]
    code: str
    trunk: int
    per_task: int
    runs: int
    first: str


@dataclass(frozen=True)
class Refusal:
    """Says that there is no program.

    Attributes:
        guard: The Python state of the network for which that is so.
        reason: The reason.
    """

    guard: Guard
    reason: str


def write_program(
    network: nn.Module, call: Call, cut: Cut, sharing: Sharing, homes: Homes, opened: Collection[Name] = ()
) -> Program | Refusal:
    """Trace one task's network and write the program for all tasks.

    Args:
        network: A network of the backbone's class with one task's copies.
        call: The way of calling it.
        cut: The part of which tasks have copies.
        sharing: Which tasks share a copy.
        homes: Path in the backbone -> the modules that stand for it in the branched network.
        opened: The numbers among the attributes that are read at every call instead of baked in.
    """
    try:
        traced = trace(network, call, cut.touched, opened)
    except Failed as failure:
        return _refuse(str(failure), failure.dependencies, homes)
    try:
        return _write(traced, sharing, homes)
    except Exception as error:
        return _refuse(reason_of(error), traced.dependencies, homes)


def warn_untraceable(kind: str, reason: str, tasks: int) -> None:
    """Warn that a network of this class runs once per task."""
    warnings.warn(
        f"{kind} cannot be traced ({reason}). It runs once per task, with that task's "
        f"copies: of what comes before the first branched layer, modules run once, but all between them "
        f"{tasks} times.",
        stacklevel=6,
    )


def _refuse(reason: str, dependencies: Dependencies, homes: Homes) -> Refusal:
    try:
        return Refusal(guard(dependencies, homes), reason)
    except Untraceable:  # without a guard it is never tried again
        return Refusal(Guard(), reason)


def _write(traced: Trace, sharing: Sharing, homes: Homes) -> Program:
    division = divide(traced, sharing)
    forward, code = _function(split(traced, division, sharing))
    operations = [node for node in traced.graph.nodes if node.op.startswith("call")]
    per_task = [node for node in operations if node in division.per_task]
    return Program(
        guard(traced.dependencies, homes, reads_of_memory(traced.graph, traced.root)),
        forward,
        tuple(traced.constants.values()),
        code,
        len(operations) - len(per_task),
        len(per_task),
        sum(map(division.groups, per_task)),
        str(per_task[0].target if per_task[0].op == "call_module" else per_task[0].name) if per_task else "",
    )


def _function(graph: fx.Graph) -> tuple[Callable[..., dict[str, Any]], str]:
    """The function that a graph stands for, and its source.

    It is no GraphModule, which would keep references to tensors that ``.to(device)`` replaces, and
    to networks long deleted.
    """
    source = graph.python_code("self")
    name = f"<branched network {next(_numbers)}>"
    linecache.cache[name] = (len(source.src), None, source.src.splitlines(keepends=True), name)  # for tracebacks
    namespace = dict(source.globals)
    exec(compile(source.src, name, "exec"), namespace)
    return namespace["forward"], source.src
