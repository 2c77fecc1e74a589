"""A batch with the tasks that it has labels of."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from recon.tasks.labelled import Labelled
from recon.tasks.task import Task
from recon.training.batch import check_names, inputs_and_targets, per_task
from recon.training.naming import naming


@dataclass(frozen=True)
class LabelledBatch:
    """The inputs of a batch, and the targets that have truth.

    Attributes:
        inputs: The inputs that all tasks take; or task -> its own inputs.
        per_task: Whether each task has inputs of its own.
        targets: Task -> the part of its target that has truth, for the tasks that have labels.
        counts: Task -> its number of labelled items, at least 1, in the same order.
    """

    inputs: Any
    per_task: bool
    targets: Mapping[str, Labelled]
    counts: Mapping[str, int]

    def select(self, task: str, prediction: Tensor) -> tuple[Tensor, Any]:
        """Prediction and target of a task, without the samples that have no truth."""
        return self.targets[task].select(prediction, self.counts[task])


def labelled_batch(batch: Any, tasks: Sequence[Task], known: Sequence[str]) -> LabelledBatch:
    """Find the labels in a batch.

    >>> from recon.tasks import classification
    >>> tasks = [classification("digit", 10), classification("letter", 26)]
    >>> targets = {"digit": torch.tensor([1, -1]), "letter": None}
    >>> labelled_batch((torch.zeros(2, 3), targets), tasks, ["digit", "letter"]).counts
    {'digit': 1}

    Args:
        batch: ``(inputs, {task: target})`` or ``{task: (inputs, target)}``.
        tasks: The tasks whose labels are looked for. A task without target, with the target
            ``None`` or without any valid item in it, is left out.
        known: The names of all tasks of the data.

    Raises:
        ValueError: The batch has another form, or targets of an unknown task; a mask does not go
            with its target.
    """
    own = per_task(batch, known)
    if own is None:
        inputs, given = inputs_and_targets(batch)
        check_names(given, [task.name for task in tasks], known)
    else:
        inputs, given = ({task: part[index] for task, part in own.items()} for index in range(2))
    targets = {task.name: _labelled(task, given[task.name]) for task in tasks if given.get(task.name) is not None}
    counts = dict(zip(targets, _read(target.count for target in targets.values()), strict=True))
    present = {task: count for task, count in counts.items() if count}
    return LabelledBatch(inputs, own is not None, {task: targets[task] for task in present}, present)


def _labelled(task: Task, target: Any) -> Labelled:
    with naming(f"the number of labels of task {task.name!r}", target=target):
        return task.labelled(target)


def _read(counts: Iterable[Tensor]) -> list[int]:
    """The values of scalars; of an accelerator all at once, since each look would wait for it."""
    scalars = list(counts)
    if all(scalar.device.type == "cpu" for scalar in scalars):
        return [int(scalar) for scalar in scalars]
    return torch.stack([scalar.to(scalars[0].device) for scalar in scalars]).tolist()
