"""A task: its name, its head's outputs, its loss, and metrics that know which way is better."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from recon.tasks.colours import (
    Legend,
    Scale,
)
from recon.tasks.labelled import Labelled, labelled, valid_samples
from recon.tasks.names import check_task_names

if TYPE_CHECKING:  # torchmetrics is slow to import, and a plain training loop does not need it
    from torchmetrics import Metric


@dataclass(frozen=True)
class Task:
    """One of the K tasks of a network.

    >>> from torch.nn.functional import mse_loss
    >>> from torchmetrics.regression import MeanSquaredError
    >>> age = Task("age", mse_loss, lambda: {"mse": MeanSquaredError()}, outputs=1)
    >>> age.higher_is_better
    {'mse': False}

    A target may lack the truth of some samples. Those without truth are left out before loss and
    metrics, so ``mse_loss`` itself never meets them:

    >>> import torch
    >>> age.count(torch.tensor([[31.0], [float("nan")], [64.0]]))
    2

    Args:
        name: An identifier, and none that ``nn.ModuleDict`` already uses (``"keys"``, ``"type"``,
            ``"train"``, ...).
        loss: Maps a head's prediction and the batch's target to a scalar tensor. It may be a
            module, or hold modules: a :class:`recon.MultiTaskModule` trains, saves and moves them
            with the network. In a loop of your own, move them yourself and give their parameters to
            the optimizer; their gradient is that of this task.
        metrics: Builds the metrics by name, new ones at each call. Each says through torchmetrics'
            ``higher_is_better`` which direction is better.
        outputs: Number of output channels of the task's head.
        estimate: Turns a head's prediction into the form of the target, for pictures and
            ``trainer.predict``; ``None`` if it has that form already.
        paint: For pictures: maps the values and the truth of one sample to RGB, (3, H, W) in [0,
            1]. Both have the form of the target, without the batch dimension. Pixels without a
            value are black.
        key: For pictures: maps the truth of one sample to the meaning of the colours, a legend or a
            scale (:mod:`recon.tasks.colours`); ``None`` if there is none.
        valid: Maps a target to the items that have truth, bool: (B,) samples, or finer, such as
            pixels (B, H, W). The loss should be a mean over these items. Samples without truth are
            left out before loss and metrics; finer items they must leave out themselves. ``None``
            takes samples: those with a finite entry if the target is a floating tensor, all
            otherwise.

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
    valid: Callable[[Any], Tensor] | None = None

    def __post_init__(self) -> None:
        check_task_names([self.name])
        if self.outputs < 1:
            raise ValueError(f"task {self.name!r} has outputs={self.outputs}; a head needs at least one")

    def estimated(self, prediction: Tensor) -> Tensor:
        """A head's prediction in the form of the target."""
        return prediction if self.estimate is None else self.estimate(prediction)

    def labelled(self, target: Any) -> Labelled:
        """The part of a target that has truth.

        Args:
            target: A batch's target, or ``{"target": ..., "mask": ...}``; see
                :mod:`recon.tasks.labelled`.

        Raises:
            ValueError: The mask does not go with the target.
        """
        return labelled(target, valid_samples if self.valid is None else self.valid)

    def count(self, target: Any) -> int:
        """The number of items of a target that have truth.

        These are samples in classification and pixels in dense tasks. With 0 the task is absent
        from the batch.

        Args:
            target: A batch's target, or ``{"target": ..., "mask": ...}``; ``None`` has no truth.

        Raises:
            ValueError: The mask does not go with the target.
        """
        return 0 if target is None else int(self.labelled(target).count)

    @property
    def higher_is_better(self) -> dict[str, bool]:
        """Whether a higher value is better, for each metric.

        Raises:
            ValueError: A metric does not say which direction is better.
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
    """Class of the largest logit: (B, C, ...) to (B, ...).

    >>> import torch
    >>> most_likely(torch.tensor([[0.1, 0.7, 0.2]]))
    tensor([1])
    """
    return logits.argmax(1)


def as_it_is(prediction: Tensor) -> Tensor:
    """The prediction itself, for heads whose output is the estimate."""
    return prediction
