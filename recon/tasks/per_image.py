"""Tasks with one answer an image: classification."""

from functools import partial
from typing import TYPE_CHECKING

from torch import nn

from recon.tasks.task import Task, most_likely

if TYPE_CHECKING:  # torchmetrics is slow to import, and a plain training loop does not need it
    from torchmetrics import Metric


def classification(name: str, classes: int) -> Task:
    """A task of one label in ``classes`` per sample.

    The loss is the mean cross-entropy of logits ``(B, classes)`` with labels ``(B,)``; the metric ``accuracy`` is
    the fraction of all samples that are right, in [0, 1]; an estimate is the likeliest label.

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
