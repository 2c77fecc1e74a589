"""Tasks with one answer per image: classification."""

from functools import partial
from typing import TYPE_CHECKING

from recon.tasks.losses import UNLABELLED, labelled_cross_entropy, valid_items
from recon.tasks.task import Task, most_likely

if TYPE_CHECKING:  # torchmetrics is slow to import, and a plain training loop does not need it
    from torchmetrics import Metric


def classification(name: str, classes: int) -> Task:
    """A task with one of ``classes`` labels per sample.

    Predictions are logits ``(B, classes)``, targets labels ``(B,)``, int64, -1 for a sample without
    a label. The loss is :func:`recon.tasks.losses.labelled_cross_entropy`, the mean over the
    labelled samples. The metric ``accuracy`` is the fraction of them that are right, in [0, 1]. An
    estimate is the most likely label.

    >>> import torch
    >>> task = classification("digit", classes=10)
    >>> round(task.loss(torch.zeros(4, 10), torch.arange(4)).item(), 4)
    2.3026
    >>> list(task.metrics()), task.outputs
    (['accuracy'], 10)
    >>> task.count(torch.tensor([3, -1, 7]))
    2

    Args:
        name: The task's name.
        classes: Number of classes, at least two.

    Raises:
        ValueError: Fewer than two classes, or a name that cannot be used.
    """
    if classes < 2:
        raise ValueError(f"task {name!r} has classes={classes}; classification needs at least two")
    accuracy = partial(_accuracy, classes)
    return Task(name, labelled_cross_entropy, accuracy, classes, most_likely, valid=valid_items)


def _accuracy(classes: int) -> "dict[str, Metric]":
    from torchmetrics.classification import MulticlassAccuracy

    # torchmetrics averages over classes by default; "micro" averages over samples.
    return {"accuracy": MulticlassAccuracy(classes, average="micro", ignore_index=UNLABELLED)}
