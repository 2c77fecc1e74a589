"""A generated function that runs a branched network in one way of calling it."""

import itertools
import linecache
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx, nn

from recon.branching.layers import Cut
from recon.branching.split import divide, split
from recon.branching.trace import Call, trace

_numbers = itertools.count()


@dataclass(frozen=True)
class Program:
    """A function of the branched network, of tensors that the backbone's forward makes, and of the call's variables.

    Attributes:
        forward: The function; it finds modules and tensors as ``shared.<path>`` and ``branches.<task>.<path>``.
        constants: Its first arguments after the network.
        code: Its source.
        trunk: How many operations run once.
        per_task: How many operations run once per task.
        first: The first of these.
    """

    forward: Callable[..., dict[str, Any]]
    constants: tuple[Tensor, ...]
    code: str
    trunk: int
    per_task: int
    first: str


def write_program(network: nn.Module, call: Call, cut: Cut, tasks: tuple[str, ...]) -> Program:
    """Trace one task's network and write the program for all tasks.

    Args:
        network: A network of the backbone's class with one task's copies.
        call: The way of calling it.
        cut: What every task has for itself.
        tasks: The tasks.
    """
    traced = trace(network, call)
    division = divide(traced, cut.is_own)
    forward, code = _function(split(traced, division, tasks, cut.is_own))
    operations = [node for node in traced.graph.nodes if node.op.startswith("call")]
    per_task = [node for node in operations if node in division.per_task]
    return Program(
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
