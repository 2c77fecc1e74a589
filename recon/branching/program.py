"""A generated function that runs a branched network in one way of calling it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx, nn

from recon.branching.layers import Cut
from recon.branching.split import divide, split
from recon.branching.trace import Call, trace


@dataclass(frozen=True)
class Program:
    """A function of the branched network, of tensors that the backbone's forward makes, and of the call's variables.

    Attributes:
        forward: The function.
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


def write_program(branched: nn.Module, network: nn.Module, call: Call, cut: Cut, tasks: tuple[str, ...]) -> Program:
    """Trace one task's network and write the program for all tasks.

    Args:
        branched: Where the program finds modules and tensors, as ``shared.<path>`` and ``branches.<task>.<path>``.
        network: A network of the backbone's class with one task's copies.
        call: The way of calling it.
        cut: What every task has for itself.
        tasks: The tasks.
    """
    traced = trace(network, call)
    division = divide(traced, cut.is_own)
    module = fx.GraphModule(branched, split(traced, division, tasks, cut.is_own))
    operations = [node for node in traced.graph.nodes if node.op.startswith("call")]
    per_task = [node for node in operations if node in division.per_task]
    return Program(
        # The function alone: a GraphModule keeps references to tensors that .to(device) replaces.
        type(module).forward,
        tuple(traced.constants.values()),
        module.code,
        len(operations) - len(per_task),
        len(per_task),
        str(per_task[0].target if per_task[0].op == "call_module" else per_task[0].name) if per_task else "",
    )
