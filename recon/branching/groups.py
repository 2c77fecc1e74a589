"""Groups of tasks that share one copy of a layer.

A partition of the tasks is a tuple with one entry for each task: the index of the first task of its
group. ``(0, 1, 0)`` are the groups ``[a, c]`` and ``[b]`` of the tasks a, b, c.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from recon.errors import number_of, unknown_name

Groups = Sequence[Sequence[str]]
"""The groups of a layer: every task in exactly one."""

Partition = tuple[int, ...]


def together(tasks: int) -> Partition:
    """All tasks in one group."""
    return (0,) * tasks


def apart(tasks: int) -> Partition:
    """Every task in a group of its own."""
    return tuple(range(tasks))


def meet(*partitions: Partition) -> Partition:
    """Keep two tasks in one group if all the partitions, one at least, do.

    Example:
        >>> meet((0, 1, 0), (0, 0, 0)), meet((0, 1, 0), (0, 0, 2))
        ((0, 1, 0), (0, 1, 2))
    """
    first: dict[tuple[int, ...], int] = {}
    return tuple(first.setdefault(own, task) for task, own in enumerate(zip(*partitions, strict=True)))


def partition_of(groups: Groups, tasks: Sequence[str]) -> Partition:
    """The partition of the tasks into groups that are known to be right.

    Example:
        >>> partition_of([["b"], ["c", "a"]], ["a", "b", "c"])
        (0, 1, 0)
    """
    first = {name: min(map(tasks.index, group)) for group in groups for name in group}
    return tuple(first[name] for name in tasks)


def groups_of(partition: Partition, tasks: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """The groups of a partition, in the order of their first tasks.

    Example:
        >>> groups_of((0, 1, 0), ["a", "b", "c"])
        (('a', 'c'), ('b',))
    """
    return tuple(
        tuple(name for name, own in zip(tasks, partition, strict=True) if own == first)
        for first in sorted(set(partition))
    )


def layer_partitions(
    layers: Sequence[str], tasks: Sequence[str], groups: Mapping[str, Groups] | None
) -> dict[str, Partition]:
    """Layer -> the partition of the tasks, for layers of which not all tasks share one copy.

    Every task is by itself in layers without groups.

    Args:
        layers: The layers to branch.
        tasks: The tasks.
        groups: Layer -> the groups of tasks that share a copy; ``None`` for no groups.

    Raises:
        ValueError: A layer is not among those to branch; or its groups miss, repeat or do not know
            a task, or one of them is empty.

    Example:
        >>> layer_partitions(["conv", "fc"], ["a", "b", "c"], {"fc": [["a", "c"], ["b"]]})
        {'conv': (0, 1, 2), 'fc': (0, 1, 0)}
    """
    given = {} if groups is None else groups
    if not isinstance(given, Mapping):
        raise ValueError(f"groups is {groups!r}; give a mapping of layers to groups: {{layer: [['a', 'c'], ['b']]}}")
    for layer in given:
        if layer not in layers:
            raise unknown_name("layer", layer, layers, where="the layers to branch")
    for layer, own in given.items():
        _check_groups(layer, own, tasks)
    partitions = {layer: partition_of(given[layer], tasks) for layer in given}
    every = {layer: partitions.get(layer, apart(len(tasks))) for layer in layers}
    return {layer: partition for layer, partition in every.items() if any(partition)}


def _check_groups(layer: str, groups: Groups, tasks: Sequence[str]) -> None:
    where = f"the groups of layer {layer!r}"
    lists = isinstance(groups, Iterable) and not isinstance(groups, str)
    if not lists or any(isinstance(group, str) or not isinstance(group, Sequence) for group in groups):
        raise ValueError(f"{where} are {groups!r}; give a list of lists of tasks: [['a', 'c'], ['b']]")
    named = [task for group in groups for task in group]
    for task in named:
        if task not in tasks:
            raise unknown_name("task", task, tasks, where)
        if named.count(task) > 1:
            raise ValueError(f"{where} have task {task!r} {named.count(task)} times; put every task into one group")
    if not all(groups):
        raise ValueError(f"{where} have an empty group; leave it out")
    if missing := [task for task in tasks if task not in named]:
        raise ValueError(f"{where} miss {', '.join(map(repr, missing))}; put every task into one group")


def keep_groups(network: nn.Module, layers: Mapping[str, Partition]) -> None:
    """Keep the groups of a network in its state, if tasks share copies; refuse states of others.

    Args:
        network: The branched network; it gets the buffer ``partitions``, (L, K) int64, with the
            layers in alphabetic order.
        layers: Branched layer -> the partition of the tasks.
    """
    if any(len(set(partition)) < len(partition) for partition in layers.values()):
        network.register_buffer("partitions", torch.tensor([layers[layer] for layer in sorted(layers)]))
        network.register_load_state_dict_pre_hook(_check_same_groups)


def _check_same_groups(network: Any, state: Mapping[str, Any], prefix: str, *_: Any) -> None:
    saved = state.get(f"{prefix}partitions")
    if saved is None or torch.equal(saved.cpu(), network.partitions.cpu()):
        return  # torch itself refuses a state that lacks it
    same = saved.shape == network.partitions.shape
    rows = enumerate(sorted(network.layers)) if same else ()
    layers = [name for row, name in rows if (saved[row] != network.partitions[row]).any()]
    where = f", in layer {layers[0]!r} and {number_of(len(layers) - 1, 'other')}" if layers else ""
    raise ValueError(f"the state is of a network with other groups of tasks{where}; branch with the groups of that one")
