"""What a task is: a name, a head's outputs, a loss, and metrics that know which direction is better."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal, get_args

from torch import Tensor, nn

from recon.errors import unknown_name
from recon.tasks.colours import (
    Legend,
    Scale,
    depth_scale,
    label_legend,
    normal_legend,
    paint_depths,
    paint_labels,
    paint_normals,
)
from recon.tasks.losses import masked_cosine, masked_cross_entropy, masked_l1
from recon.tasks.names import check_task_names

if TYPE_CHECKING:  # torchmetrics is slow to import, and a plain training loop does not need it
    from torchmetrics import Metric

Aggregation = Literal["dataset", "per_batch"]
"""Metrics over the whole evaluation set; or the mean over batches of each batch's value, as older papers report."""


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
    return Task(name, nn.functional.cross_entropy, partial(_accuracy, classes), classes, _most_likely)


def segmentation(
    name: str, classes: int, aggregation: Aggregation = "dataset", class_names: Sequence[str] = ()
) -> Task:
    """A task of one label in ``classes`` per pixel.

    Predictions are logits (B, classes, H, W), targets labels (B, H, W), int64, -1 where there is none. The loss is
    :func:`recon.tasks.losses.masked_cross_entropy`; the metrics are ``miou`` and ``pixel_accuracy``, in [0, 1].

    Args:
        name: The task's name.
        classes: Number of classes, at least two.
        aggregation: Metrics over the whole ``"dataset"``, or ``"per_batch"`` and averaged.
        class_names: For the legend of pictures: the name of each class; by default its number.

    Raises:
        ValueError: Fewer than two classes, another number of names, an unknown aggregation, or a name that cannot be
            used.
    """
    if classes < 2:
        raise ValueError(f"task {name!r} has classes={classes}; segmentation needs at least two")
    if class_names and len(class_names) != classes:
        raise ValueError(f"task {name!r} has {len(class_names)} class_names for {classes} classes; give one each")
    return Task(
        name,
        masked_cross_entropy,
        _aggregated(partial(_segmentation_metrics, classes), aggregation),
        classes,
        _most_likely,
        partial(paint_labels, classes=classes),
        partial(label_legend, names=tuple(class_names) or tuple(map(str, range(classes)))),
    )


def depth(name: str, aggregation: Aggregation = "dataset") -> Task:
    """A task of one positive value per pixel: depth, or disparity.

    Predictions and targets are (B, 1, H, W), targets NaN where there is no truth. The loss is
    :func:`recon.tasks.losses.masked_l1`; the metrics are ``absolute_error``, in the target's unit, and
    ``relative_error``, which is divided by the truth.

    Args:
        name: The task's name.
        aggregation: Metrics over the whole ``"dataset"``, or ``"per_batch"`` and averaged.

    Raises:
        ValueError: An unknown aggregation, or a name that cannot be used.
    """
    return Task(name, masked_l1, _aggregated(_depth_metrics, aggregation), 1, _as_it_is, paint_depths, depth_scale)


def normals(name: str, aggregation: Aggregation = "dataset") -> Task:
    """A task of one direction in space per pixel: surface normals.

    Predictions are vectors of any length (B, 3, H, W), targets unit vectors, NaN where there is no truth. The loss is
    :func:`recon.tasks.losses.masked_cosine`; the metrics are ``mean_angle`` and ``median_angle`` in degrees, and
    ``within_11_25``, ``within_22_5`` and ``within_30``, the fractions of pixels with a smaller angle than that.

    Args:
        name: The task's name.
        aggregation: Metrics over the whole ``"dataset"``, or ``"per_batch"`` and averaged.

    Raises:
        ValueError: An unknown aggregation, or a name that cannot be used.
    """
    return Task(
        name, masked_cosine, _aggregated(_normals_metrics, aggregation), 3, _unit_vectors, paint_normals, normal_legend
    )


def _accuracy(classes: int) -> "dict[str, Metric]":
    from torchmetrics.classification import MulticlassAccuracy

    # torchmetrics averages over classes by default; "micro" averages over samples.
    return {"accuracy": MulticlassAccuracy(classes, average="micro")}


def _segmentation_metrics(classes: int) -> "dict[str, Metric]":
    from recon.tasks.metrics import MeanIoU, PixelAccuracy

    return {"miou": MeanIoU(classes), "pixel_accuracy": PixelAccuracy(classes)}


def _depth_metrics() -> "dict[str, Metric]":
    from recon.tasks.metrics import AbsoluteError, RelativeError

    return {"absolute_error": AbsoluteError(), "relative_error": RelativeError()}


def _normals_metrics() -> "dict[str, Metric]":
    from recon.tasks.metrics import MeanAngle, MedianAngle, WithinAngle

    # Lightning and torchmetrics keep metrics as submodules, whose names cannot have a point.
    within = {f"within_{degrees:g}".replace(".", "_"): WithinAngle(degrees) for degrees in (11.25, 22.5, 30)}
    return {"mean_angle": MeanAngle(), "median_angle": MedianAngle(), **within}


def _aggregated(
    metrics: "Callable[[], dict[str, Metric]]", aggregation: Aggregation
) -> "Callable[[], dict[str, Metric]]":
    if aggregation not in get_args(Aggregation):
        raise unknown_name("aggregation", aggregation, get_args(Aggregation))
    return metrics if aggregation == "dataset" else partial(_per_batch, metrics)


def _per_batch(metrics: "Callable[[], dict[str, Metric]]") -> "dict[str, Metric]":
    from recon.tasks.metrics import PerBatch

    return {name: PerBatch(name, metric) for name, metric in metrics().items()}


def _most_likely(logits: Tensor) -> Tensor:
    return logits.argmax(1)


def _as_it_is(prediction: Tensor) -> Tensor:
    return prediction


def _unit_vectors(prediction: Tensor) -> Tensor:
    return nn.functional.normalize(prediction, dim=1)
