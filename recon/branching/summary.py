"""The text that a branched network prints as."""

import textwrap
from collections.abc import Collection, Iterable, Mapping, Sequence

from torch import nn

from recon.branching.graph.program import Program, Refusal


def summary(
    tasks: Sequence[str],
    layers: Sequence[str],
    branch: Iterable[nn.Parameter],
    shared: Mapping[str, Sequence[nn.Parameter]],
    norms: Collection[str],
    program: Program | Refusal,
) -> str:
    """Return the lines that follow the class names in the ``repr`` of a branched network.

    Args:
        tasks: The tasks.
        layers: The branched layers.
        branch: The parameters of one task's copies.
        shared: Layer -> its shared parameters.
        norms: The norms that are not branched and keep running statistics per task.
        program: The program of a plain call, or why there is none.
    """
    names = ", ".join(layers) or "nothing"
    return "\n".join(
        [
            f"tasks: {', '.join(tasks)}",
            textwrap.fill(names, 100, initial_indent="  branched: ", subsequent_indent=" " * 12),
            f"  branches: {len(layers)} layers, {_count(branch):,} parameters for each task",
            f"  shared:   {len(shared)} layers, {_count(p for own in shared.values() for p in own):,} parameters",
            *([f"  per task: running statistics of {len(norms)} modules that are not branched"] if norms else []),
            f"  trunk:    {_trunk(program)}",
        ]
    )


def _trunk(program: Program | Refusal) -> str:
    if isinstance(program, Refusal):
        return f"only modules before the first branch run once, as it cannot be traced ({program.reason})"
    if not program.per_task:
        return f"all {program.trunk} operations, run once"
    return (
        f"{program.trunk} operations, run once; the other {program.per_task}, from {program.first!r} on, "
        f"run once per task"
    )


def _count(parameters: Iterable[nn.Parameter]) -> int:
    return sum(parameter.numel() for parameter in parameters)
