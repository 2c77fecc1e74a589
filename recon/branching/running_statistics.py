"""The running statistics of which every task needs its own set.

In training, a norm with running statistics normalises by its batch. In evaluation it uses averages
over the batches that it has seen. Behind a branched layer it sees one activation per task. A single
set of averages mixes the tasks, and evaluation is wrong for all of them. With one set per task,
evaluation equals that of a separate network per task.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import accumulate
from typing import Literal

from torch import nn

from recon.branching.call import Call
from recon.branching.graph.split import divide
from recon.branching.graph.trace import Trace, in_mode, trace
from recon.branching.layers import cut, join

Statistics = Literal["shared", "per_task"]
"""The place of the running statistics of norms that stay shared."""


def running_statistics(backbone: nn.Module) -> frozenset[str]:
    """The names of the buffers that hold running statistics.

    These are all buffers of a module that has a buffer named ``running_...``, as PyTorch's norms
    and similar ones do; the others count batches.
    """
    return frozenset(
        join(path, name)
        for path, module in backbone.named_modules()
        if any(name.startswith("running_") for name, _ in module.named_buffers(recurse=False))
        for name, _ in module.named_buffers(recurse=False)
    )


def per_task_statistics(backbone: nn.Module, paths: Sequence[str], calls: Sequence[Call]) -> frozenset[str]:
    """The running statistics outside branched layers that every task needs for itself.

    They are all statistics that are not known to run only before the first branched layer. They
    include those of modules that the calls do not reach, and all of them in a backbone that cannot
    be traced.

    Args:
        backbone: The network to branch.
        paths: The branched layers.
        calls: The ways of calling it that are known beforehand.
    """
    statistics = running_statistics(backbone) - cut(backbone, paths).tensors
    own: frozenset[str] = frozenset()
    try:
        touched = cut(backbone, paths).touched
        traces = [trace(in_mode(backbone, call.training), call, touched) for call in calls]
        # A module that runs before and behind a branch moves the place where tasks part.
        while own != (more := statistics - _run_once(traces, statistics, cut(backbone, paths, own).is_own)):
            own = more
    except Exception:  # a forward may raise anything when it runs on traced values
        return statistics
    return own


def _run_once(traces: Sequence[Trace], statistics: Collection[str], is_own: Callable[[str], bool]) -> set[str]:
    """The statistics that some trace uses, and that none uses once per task."""
    within = _by_target(statistics)
    once: set[str] = set()
    per_task: set[str] = set()
    for traced in traces:
        division = divide(traced, is_own)
        for node in traced.graph.nodes:
            if node.op in ("call_module", "get_attr"):
                (per_task if node in division.per_task else once).update(within.get(str(node.target), ()))
    return once - per_task


def _by_target(names: Collection[str]) -> Mapping[str, set[str]]:
    """Name of a module or tensor that a graph uses -> the given names at or below it."""
    within: dict[str, set[str]] = defaultdict(set)
    for name in names:
        for prefix in accumulate(name.split("."), join):
            within[prefix].add(name)
    return within
