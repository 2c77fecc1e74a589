"""The running statistics of which every task, or group of tasks, needs its own set.

In training, a norm with running statistics normalises by its batch. In evaluation it uses averages
over the batches that it has seen. Behind a branched layer it sees one activation per task. A single
set of averages mixes the tasks, and evaluation is wrong for all of them. With one set per task,
evaluation equals that of a separate network per task.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from itertools import accumulate
from typing import Literal

from torch import nn

from recon.branching.call import Call
from recon.branching.graph.split import divide
from recon.branching.graph.trace import Trace, in_mode, trace
from recon.branching.groups import Partition, apart, meet, together
from recon.branching.layers import cut, join
from recon.branching.sharing import Sharing, sharing

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


def statistics_by_group(
    backbone: nn.Module, layers: Mapping[str, Partition], tasks: tuple[str, ...], calls: Sequence[Call]
) -> dict[str, Partition]:
    """The running statistics of which tasks need sets of their own, beyond those of their layer.

    They are all statistics that are not known to run only before the first branched layer. They
    include those of modules that the calls do not reach, and all of them in a backbone that cannot
    be traced. Tasks that have shared all copies so far share a set. Tasks that share a branched
    norm have different sets if an earlier layer has parted them.

    Args:
        backbone: The network to branch.
        layers: Path of a branched layer -> the partition of the tasks.
        tasks: The tasks.
        calls: The ways of calling it that are known beforehand.

    Returns:
        Name of a buffer -> the partition of the tasks that have a set each.
    """
    statistics = running_statistics(backbone)
    own: dict[str, Partition] = {}
    try:
        given = _with(backbone, layers, own, tasks)
        touched = cut(backbone, [*layers]).touched
        traces = [trace(in_mode(backbone, call.training), call, touched) for call in calls]
        # A module that runs before and behind a branch moves the place where tasks part.
        while own != (more := _by_group(traces, statistics, given, _with(backbone, layers, own, tasks))):
            own = more
    except Exception:  # a forward may raise anything when it runs on traced values
        return dict.fromkeys(statistics, apart(len(tasks)))
    return own


def _with(
    backbone: nn.Module, layers: Mapping[str, Partition], own: Mapping[str, Partition], tasks: tuple[str, ...]
) -> Sharing:
    return sharing(backbone, cut(backbone, [*layers], [*own]), layers, own, tasks)


def _by_group(
    traces: Sequence[Trace], statistics: Collection[str], given: Sharing, present: Sharing
) -> dict[str, Partition]:
    """The partitions of the statistics that run more often than is given, or that no trace uses."""
    within = _by_target(statistics)
    everyone = together(len(given.tasks))
    used: dict[str, Partition] = {}
    for traced in traces:
        division = divide(traced, present)
        for node in traced.graph.nodes:
            if node.op in ("call_module", "get_attr"):
                groups = division.partitions.get(node, everyone)
                used |= {name: meet(used.get(name, everyone), groups) for name in within.get(str(node.target), ())}
    unused = dict.fromkeys(set(statistics) - used.keys(), apart(len(given.tasks)))
    return {name: groups for name, groups in (used | unused).items() if groups != given.of(name)}


def _by_target(names: Collection[str]) -> Mapping[str, set[str]]:
    """Name of a module or tensor that a graph uses -> the given names at or below it."""
    within: dict[str, set[str]] = defaultdict(set)
    for name in names:
        for prefix in accumulate(name.split("."), join):
            within[prefix].add(name)
    return within
