"""The text that a branched network prints as."""

import textwrap
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import chain

from torch import nn

from recon.branching.graph.program import Program, Refusal
from recon.errors import number_of
from recon.gradients.layers import number_of_layers


def summary(
    tasks: Sequence[str],
    groups: Mapping[str, Sequence[Sequence[str]]],
    branches: Sequence[Sequence[nn.Parameter]],
    shared: Mapping[str, Sequence[nn.Parameter]],
    norms: Collection[str],
    program: Program | Refusal,
) -> str:
    """Return the lines that follow the class names in the ``repr`` of a branched network.

    Args:
        tasks: The tasks.
        groups: Branched layer -> the groups of tasks that share a copy.
        branches: The parameters of each task's copies.
        shared: Layer -> its shared parameters.
        norms: The norms that are not branched and keep running statistics per task.
        program: The program of a plain call, or why there is none.
    """
    names = ", ".join(groups) or "nothing"
    return "\n".join(
        [
            f"tasks: {', '.join(tasks)}",
            textwrap.fill(names, 100, initial_indent="  branched: ", subsequent_indent=" " * 12),
            f"  branches: {number_of_layers(groups)}, {_copies(groups, branches, len(tasks))}",
            *_grouped_layers(groups, len(tasks)),
            f"  shared:   {number_of_layers(shared)}, {_count(p for own in shared.values() for p in own):,} parameters",
            *([f"  per task: running statistics of {number_of(len(norms), 'unbranched module')}"] if norms else []),
            f"  trunk:    {_trunk(program, len(tasks))}",
        ]
    )


def _copies(
    groups: Mapping[str, Sequence[Sequence[str]]], branches: Sequence[Sequence[nn.Parameter]], tasks: int
) -> str:
    if all(len(own) == tasks for own in groups.values()):
        return f"{_count(branches[0]):,} parameters for each task"
    every = dict.fromkeys(chain(*branches))
    return f"{sum(map(len, groups.values()))} copies, {_count(every):,} parameters in all copies"


def _grouped_layers(groups: Mapping[str, Sequence[Sequence[str]]], tasks: int) -> list[str]:
    """Lines with the groups of fewer copies than tasks, and the layers that have them."""
    layers: dict[str, list[str]] = {}
    for layer, own in groups.items():
        if len(own) < tasks:
            layers.setdefault(" | ".join(", ".join(group) for group in own), []).append(layer)
    return [
        textwrap.fill(f"{shown}: {', '.join(names)}", 100, initial_indent="  groups:   ", subsequent_indent=" " * 12)
        for shown, names in layers.items()
    ]


def _trunk(program: Program | Refusal, tasks: int) -> str:
    if isinstance(program, Refusal):
        return f"only modules before the first branch run once, as it cannot be traced ({program.reason})"
    if not program.per_task:
        return f"all {number_of(program.trunk, 'operation')}, run once"
    return (
        f"{number_of(program.trunk, 'operation')}, run once; the other {program.per_task}, from {program.first!r} on, "
        f"run {_often(program, tasks)}"
    )


def _often(program: Program, tasks: int) -> str:
    if program.runs == program.per_task * tasks:
        return "once per task"
    return f"once per group that has shared all copies so far, {program.runs} in all"


def _count(parameters: Iterable[nn.Parameter]) -> int:
    return sum(parameter.numel() for parameter in parameters)
