"""Tasks with one answer per image: classification."""

from functools import partial
from typing import TYPE_CHECKING

from torch import nn

from recon.tasks.task import Task, most_likely

if TYPE_CHECKING:  # torchmetrics is slow to import, and a plain training loop does not need it
    from torchmetrics import Metric


def classification(name: str, classes: int) -> Task:
    """A task with one of ``classes`` labels per sample.

    The loss is the mean cross-entropy of logits ``(B, classes)`` with labels ``(B,)``. The metric
    ``accuracy`` is the fraction of all samples that are right, in [0, 1]. An estimate is the most
    likely label.

    >>> import torch
    >>> task = classification("digit", classes=10)
    >>> round(task.loss(torch.zeros(4, 10), torch.arange(4)).item(), 4)
    2.3026
    >>> list(task.metrics()), task.outputs
    (['accuracy'], 10)

    Args:
        name: The task's name.
        classes: Number of classes, at least two.

    Raises:
        ValueError: Fewer than two classes, or a name that cannot be used.
    """
    if classes < 2:
        raise ValueError(f"task {name!r} has classes={classes}; classification needs at least two")
    return Task(name, nn.functional.cross_entropy, partial(_accuracy, classes), classes, most_likely)


def _accuracy(classes: int) -> "dict[str, Metric]":
    from torchmetrics.classification import MulticlassAccuracy

    # torchmetrics averages over classes by default; "micro" averages over samples.
    return {"accuracy": MulticlassAccuracy(classes, average="micro")}
