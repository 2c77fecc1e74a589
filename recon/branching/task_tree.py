"""Task trees: which tasks share which stages of a network, as a search finds them.

    {"format": "recon-task-tree", "version": 1,
     "provenance": {"network", "dataset", "epochs", "seed", "recon", "torch", "created", ...},
     "settings": the options of the search,
     "tasks": [K names],
     "checksum": see ``recon.files.checksum``,
     "stages": [{"name", "groups": [[task, ...], ...], "layers": [names],
                 "probabilities": [K rows, one number per copy]}]}

Stages stand in the order in which they run. The groups of a stage part those of the stage before.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import nan
from os import PathLike
from pathlib import Path
from typing import Any

from recon.branching.groups import layer_partitions, meet, partition_of
from recon.errors import number_of
from recon.files.atomic import write_atomically
from recon.files.checksum import KEY, check_seal, checksum
from recon.files.reading import NUMBER, read_object, require
from recon.tasks.names import check_task_names

FORMAT = "recon-task-tree"
VERSION = 1


@dataclass(frozen=True)
class TreeStage:
    """A stage of a network, and the tasks that share it.

    Attributes:
        name: Path of the stage.
        groups: The groups of tasks that share a copy.
        layers: The layers in the stage.
        probabilities: For each task the probability of each copy, as the search left them.
    """

    name: str
    groups: tuple[tuple[str, ...], ...]
    layers: tuple[str, ...]
    probabilities: tuple[tuple[float, ...], ...] = ()

    @property
    def certainty(self) -> float:
        """The least probability with which a task chose its copy; NaN where none are kept.

        >>> TreeStage("conv1", (("a",), ("b",)), ("conv1",), ((0.9, 0.1), (0.45, 0.55))).certainty
        0.55
        """
        return min((max(row) for row in self.probabilities), default=nan)


@dataclass(frozen=True)
class TaskTree:
    """Which tasks share which stages of a network; ``recon search --by bmtas`` finds one.

    >>> import torch, recon
    >>> from recon.models import LeNet
    >>> stages = [TreeStage("conv1", (("a", "b", "c"),), ("conv1",)),
    ...           TreeStage("conv2", (("a", "c"), ("b",)), ("conv2",))]
    >>> tree = TaskTree(("a", "b", "c"), tuple(stages))
    >>> print(tree)
    conv1  a b c
    conv2  a c | b
    >>> tree.groups
    {'conv2': (('a', 'c'), ('b',))}
    >>> network = recon.branch(LeNet(), [*tree.groups], tree.tasks, groups=tree.groups)
    >>> network.layers
    ('conv2',)

    Attributes:
        tasks: The tasks.
        stages: The stages, in the order in which they run.
        settings: The options of the search.
        provenance: Where the tree came from: network, dataset, epochs, seed, versions, ...

    Raises:
        ValueError: The groups of a stage miss, repeat or do not know a task, join tasks that an
            earlier stage has parted, or a layer is in two stages.
    """

    tasks: tuple[str, ...]
    stages: tuple[TreeStage, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_task_names(self.tasks)
        layers = [layer for stage in self.stages for layer in stage.layers]
        if repeated := [layer for layer in layers if layers.count(layer) > 1]:
            raise ValueError(f"layer {repeated[0]!r} is in {number_of(len(repeated), 'stage')}")
        names = [stage.name for stage in self.stages]
        layer_partitions(names, self.tasks, {stage.name: stage.groups for stage in self.stages})
        partitions = [partition_of(stage.groups, self.tasks) for stage in self.stages]
        for before, after, name in zip(partitions, partitions[1:], names[1:], strict=False):
            if meet(before, after) != after:
                raise ValueError(f"stage {name!r} joins tasks that the stage before it has parted")

    @property
    def groups(self) -> dict[str, tuple[tuple[str, ...], ...]]:
        """Layer -> the groups of tasks that share a copy, for layers that not all tasks share.

        Its keys are ``layers`` of :func:`recon.branch`, and it is ``groups`` there.
        """
        return {layer: stage.groups for stage in self.stages if len(stage.groups) > 1 for layer in stage.layers}

    def check_tasks(self, tasks: Sequence[str]) -> None:
        """Refuse other tasks than those of the tree.

        Raises:
            ValueError: They differ.
        """
        if set(tasks) != set(self.tasks):
            raise ValueError(
                f"the task tree is of the tasks {', '.join(self.tasks)}, and does not fit {', '.join(tasks)}; search "
                "with these tasks, or give their tree"
            )

    def save(self, path: str | PathLike[str]) -> None:
        """Write the tree to a JSON file, and make its folder.

        A crash leaves the old file or the new one, never a part.

        Args:
            path: The file.

        Example:
            >>> from tempfile import TemporaryDirectory
            >>> tree = TaskTree(("a", "b"), (TreeStage("conv1", (("a",), ("b",)), ("conv1",)),))
            >>> with TemporaryDirectory() as folder:
            ...     tree.save(Path(folder) / "tree.json")
            ...     TaskTree.load(Path(folder) / "tree.json") == tree
            True
        """
        head: dict[str, Any] = {"format": FORMAT, "version": VERSION, "provenance": dict(self.provenance)}
        head |= {"settings": dict(self.settings), "tasks": list(self.tasks)}
        stages = [_stage_record(stage) for stage in self.stages]
        # as it will be read back: tuples become lists
        head = json.loads(json.dumps(head, allow_nan=False))
        head[KEY] = checksum({**head, "stages": stages})
        fields = "".join(f" {json.dumps(key)}: {json.dumps(value)},\n" for key, value in head.items())
        lines = ",\n  ".join(map(json.dumps, stages))
        write_atomically(Path(path), f'{{\n{fields} "stages": [\n  {lines}\n ]\n}}\n')

    @classmethod
    def load(cls, path: str | PathLike[str]) -> "TaskTree":
        """Read a tree that :meth:`save` wrote.

        Args:
            path: The file.

        Raises:
            ValueError: The file is no task tree, has another version, or is damaged.
            FileNotFoundError: There is no such file.
        """
        if not Path(path).is_file():
            raise FileNotFoundError(
                f"there is no task tree {path}; the path is relative to {Path.cwd()}, and recon search --by bmtas "
                "writes such files"
            )
        record = read_object(Path(path))
        if record.get("format") != FORMAT:
            raise ValueError(
                f"{path} is no task tree: its 'format' is {record.get('format')!r}, not {FORMAT!r}; give a file that "
                "recon search --by bmtas wrote"
            )
        if record.get("version") != VERSION:
            raise ValueError(
                f"{path} is a task tree of version {record.get('version')!r}, and this recon reads version {VERSION}; "
                "read it with the recon that wrote it, or search again"
            )
        try:
            if not check_seal(record):
                raise ValueError(f"it has no {KEY!r}")
            return cls._from_record(record)
        except ValueError as error:
            raise ValueError(f"{path} is a damaged task tree: {error}; restore it or search again") from error

    @classmethod
    def _from_record(cls, record: dict[str, Any]) -> "TaskTree":
        tasks = _names(require(record, "tasks", (list,), "the tree"), "tasks")
        stages = require(record, "stages", (list,), "the tree")
        return cls(
            tasks,
            tuple(_stage(stage, f"stage number {number}") for number, stage in enumerate(stages)),
            require(record, "settings", (dict,), "the tree"),
            require(record, "provenance", (dict,), "the tree"),
        )

    def __str__(self) -> str:
        width = max((len(stage.name) for stage in self.stages), default=0)
        return "\n".join(f"{stage.name:<{width}}  {' | '.join(map(' '.join, stage.groups))}" for stage in self.stages)


def tree_stage(
    name: str, groups: Sequence[Sequence[str]], layers: Sequence[str], probabilities: Sequence[Sequence[float]]
) -> TreeStage:
    """A stage from lists, with probabilities to six digits."""
    rounded = tuple(tuple(round(float(value), 6) for value in row) for row in probabilities)
    return TreeStage(name, tuple(map(tuple, groups)), tuple(layers), rounded)


def _stage_record(stage: TreeStage) -> dict[str, Any]:
    record = {"name": stage.name, "groups": stage.groups, "layers": stage.layers, "probabilities": stage.probabilities}
    read_back: dict[str, Any] = json.loads(json.dumps(record, allow_nan=False))
    return read_back


def _stage(record: Any, where: str) -> TreeStage:
    groups, layers, rows = (require(record, key, (list,), where) for key in ("groups", "layers", "probabilities"))
    for row in rows:
        if type(row) is not list or not all(type(value) in NUMBER for value in row):
            raise ValueError(f"the probabilities of {where} are no lists of numbers")
    named = tuple(_names(group, f"a group of {where}") for group in groups)
    return TreeStage(
        require(record, "name", (str,), where), named, _names(layers, f"the layers of {where}"), tuple(map(tuple, rows))
    )


def _names(value: Any, what: str) -> tuple[str, ...]:
    if type(value) is not list or not all(type(name) is str for name in value):
        raise ValueError(f"{what} is {str(value)[:40]}, not a list of names")
    return tuple(value)
