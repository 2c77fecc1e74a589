"""What a task is: a name, a head's outputs, a loss, and metrics that know which direction is better."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from recon.tasks.colours import (
    Legend,
    Scale,
)
from recon.tasks.names import check_task_names

if TYPE_CHECKING:  # torchmetrics is slow to import, and a plain training loop does not need it
    from torchmetrics import Metric


@dataclass(frozen=True)
class Task:
    """One of the K things that a network is trained for.

    Args:
        name: An identifier, and none that ``nn.ModuleDict`` already uses (``"keys"``, ``"type"``, ``"train"``, ...).
        loss: Maps a head's prediction and the batch's target to a scalar tensor. It may be a module, or hold some: a
            :class:`recon.MultiTaskModule` trains, saves and moves them with the network. In a loop of your own they are
            yours to move, and their parameters the optimizer's: what they learn gets this task's gradient.
        metrics: Builds the metrics, freshly at each call, by name. Each says through torchmetrics'
            ``higher_is_better`` which direction is better.
        outputs: Number of output channels of the task's head.
        estimate: A head's prediction in the form of the target, for pictures and ``trainer.predict``; ``None`` if it is
            in that form already.
        paint: For pictures: the values and the truth of one sample, both in the form of the target, without the batch
            dimension, to the values as RGB, (3, H, W) in [0, 1]; black where there is no value.
        key: For pictures: the truth of one sample to what the colours mean, as a legend or a scale
            (:mod:`recon.tasks.colours`); ``None`` if that cannot be said.

    Raises:
        ValueError: The name cannot be used, or ``outputs`` is not positive.
    """

    name: str
    loss: Callable[[Tensor, Tensor], Tensor]
    metrics: "Callable[[], dict[str, Metric]]"
    outputs: int
    estimate: Callable[[Tensor], Tensor] | None = None
    paint: Callable[[Tensor, Tensor], Tensor] | None = None
    key: Callable[[Tensor], Legend | Scale | None] | None = None

    def __post_init__(self) -> None:
        check_task_names([self.name])
        if self.outputs < 1:
            raise ValueError(f"task {self.name!r} has outputs={self.outputs}; a head needs at least one")

    def estimated(self, prediction: Tensor) -> Tensor:
        """A head's prediction in the form of the target."""
        return prediction if self.estimate is None else self.estimate(prediction)

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


def most_likely(logits: Tensor) -> Tensor:
    """Class of the largest logit: (B, C, ...) to (B, ...)."""
    return logits.argmax(1)


def as_it_is(prediction: Tensor) -> Tensor:
    """The prediction itself, where a head gives the estimate."""
    return prediction
