"""What a task is: a name, a head's outputs, a loss, and metrics that know which direction is better."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from torch import Tensor, nn

from recon.names import check_task_names

if TYPE_CHECKING:  # torchmetrics is slow to import, and a plain training loop does not need it
    from torchmetrics import Metric


@dataclass(frozen=True)
class Task:
    """One of the K things that a network is trained for.

    Args:
        name: An identifier, and none that ``nn.ModuleDict`` already uses (``"keys"``, ``"type"``, ``"train"``, ...).
        loss: Maps a head's prediction and the batch's target to a scalar tensor.
        metrics: Builds the metrics, freshly at each call, by name. Each says through torchmetrics'
            ``higher_is_better`` which direction is better.
        outputs: Number of output channels of the task's head.

    Raises:
        ValueError: The name cannot be used, or ``outputs`` is not positive.
    """

    name: str
    loss: Callable[[Tensor, Tensor], Tensor]
    metrics: "Callable[[], dict[str, Metric]]"
    outputs: int

    def __post_init__(self) -> None:
        check_task_names([self.name])
        if self.outputs < 1:
            raise ValueError(f"task {self.name!r} has outputs={self.outputs}; a head needs at least one")

    @property
    def higher_is_better(self) -> dict[str, bool]:
        """For each metric, whether a higher value is better.

        Raises:
            ValueError: A metric does not say so.
        """
        directions = {}
        for name, metric in self.metrics().items():
            if metric.higher_is_better is None:
                raise ValueError(
                    f"metric {name!r} of task {self.name!r} ({type(metric).__name__}) does not say which direction is "
                    "better; set the class attribute `higher_is_better` to True or False"
                )
            directions[name] = metric.higher_is_better
        return directions


def classification(name: str, classes: int) -> Task:
    """A task of one label in ``classes`` per sample.

    The loss is the mean cross-entropy of logits ``(B, classes)`` with labels ``(B,)``; the metric ``accuracy`` is
    the fraction of all samples that are right, in [0, 1].

    Args:
        name: The task's name.
        classes: Number of classes, at least two.

    Raises:
        ValueError: Fewer than two classes, or a name that cannot be used.
    """
    if classes < 2:
        raise ValueError(f"task {name!r} has classes={classes}; classification needs at least two")
    return Task(name, nn.functional.cross_entropy, partial(_accuracy, classes), classes)


def _accuracy(classes: int) -> "dict[str, Metric]":
    from torchmetrics.classification import MulticlassAccuracy

    # torchmetrics averages over classes by default; "micro" averages over samples.
    return {"accuracy": MulticlassAccuracy(classes, average="micro")}
