"""Tasks with an answer at every pixel: segmentation, parts of people, depth, normals."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Literal, get_args

from torch import Tensor, nn

from recon.errors import unknown_name
from recon.tasks.colours import (
    depth_scale,
    label_legend,
    normal_legend,
    paint_depths,
    paint_labels,
    paint_normals,
)
from recon.tasks.losses import masked_cosine, masked_cross_entropy, masked_l1, valid_items
from recon.tasks.task import Task, as_it_is, most_likely

if TYPE_CHECKING:  # torchmetrics is slow to import, and a plain training loop does not need it
    from torchmetrics import Metric


Aggregation = Literal["dataset", "per_batch"]
"""Metrics over the whole evaluation set, or the mean of each batch's value, as in older papers."""


def segmentation(
    name: str, classes: int, aggregation: Aggregation = "dataset", class_names: Sequence[str] = ()
) -> Task:
    """A task with one of ``classes`` labels per pixel.

    Predictions are logits (B, classes, H, W), targets labels (B, H, W), int64, -1 where there is
    none. The loss is :func:`recon.tasks.losses.masked_cross_entropy`; the metrics are ``miou`` and
    ``pixel_accuracy``, in [0, 1].

    >>> import torch
    >>> task = segmentation("classes", 3, class_names=("road", "car", "sky"))
    >>> labels = torch.tensor([[[0, 1], [2, -1]]])
    >>> round(task.loss(torch.zeros(1, 3, 2, 2), labels).item(), 4)
    1.0986
    >>> list(task.metrics())
    ['miou', 'pixel_accuracy']

    Args:
        name: The task's name.
        classes: Number of classes, at least two.
        aggregation: Metrics over the whole ``"dataset"``, or ``"per_batch"`` and averaged.
        class_names: For the legend of pictures: the name of each class; by default its number.

    Raises:
        ValueError: Fewer than two classes, another number of names, an unknown aggregation, or a
            name that cannot be used.
    """
    if classes < 2:
        raise ValueError(f"task {name!r} has classes={classes}; segmentation needs at least two")
    if class_names and len(class_names) != classes:
        raise ValueError(f"task {name!r} has {len(class_names)} class_names for {classes} classes; give one each")
    return Task(
        name,
        masked_cross_entropy,
        aggregated(partial(_segmentation_metrics, classes), aggregation),
        classes,
        most_likely,
        partial(paint_labels, classes=classes),
        partial(label_legend, names=tuple(class_names) or tuple(map(str, range(classes)))),
        valid_items,
    )


PART_NAMES = ("background", "head", "torso", "upper arm", "lower arm", "upper leg", "lower leg")
"""The parts of people in PASCAL-Context's protocol, in the order of their labels."""


def parts(name: str, aggregation: Aggregation = "dataset", class_names: Sequence[str] = PART_NAMES) -> Task:
    """A task with one part of a body per pixel, as the people of PASCAL-Context have them.

    Predictions are logits (B, 7, H, W), targets labels (B, H, W), int64, -1 where there is none.
    The loss is :func:`recon.tasks.losses.masked_cross_entropy`; the metric is ``miou``. The
    protocol is that of Maninis et al., "Attentive Single-Tasking of Multiple Tasks", CVPR 2019: 6
    parts and the background, which counts too; NaN if the set has no truth. An image without people
    has no truth: its labels are -1 everywhere.

    >>> import torch
    >>> task = parts("parts")
    >>> round(task.loss(torch.zeros(1, 7, 1, 2), torch.tensor([[[3, -1]]])).item(), 4)
    1.9459
    >>> list(task.metrics()), task.outputs
    (['miou'], 7)

    Args:
        name: The task's name.
        aggregation: Metrics over the whole ``"dataset"``, or ``"per_batch"`` and averaged.
        class_names: Name of each class, the background first.

    Raises:
        ValueError: Fewer than two classes, an unknown aggregation, or a name that cannot be used.
    """
    task = segmentation(name, len(class_names), aggregation, class_names)
    return replace(task, metrics=aggregated(partial(_part_metrics, len(class_names)), aggregation))


def depth(name: str, aggregation: Aggregation = "dataset") -> Task:
    """A task with one positive value per pixel: depth, or disparity.

    Predictions are values (B, 1, H, W), targets values (B, 1, H, W), NaN where there is no truth.
    The loss is :func:`recon.tasks.losses.masked_l1`; the metrics are ``absolute_error``, in the
    target's unit, and ``relative_error``, which is divided by the truth.

    >>> import torch
    >>> task = depth("depth")
    >>> target = torch.tensor([[[[2.0, float("nan")]]]])
    >>> task.loss(torch.full((1, 1, 1, 2), 2.5), target).item()
    0.5

    Args:
        name: The task's name.
        aggregation: Metrics over the whole ``"dataset"``, or ``"per_batch"`` and averaged.

    Raises:
        ValueError: An unknown aggregation, or a name that cannot be used.
    """
    metrics = aggregated(_depth_metrics, aggregation)
    return Task(name, masked_l1, metrics, 1, as_it_is, paint_depths, depth_scale, valid_items)


def normals(name: str, aggregation: Aggregation = "dataset") -> Task:
    """A task with one direction in space per pixel: surface normals.

    Predictions are vectors of any length (B, 3, H, W), targets unit vectors (B, 3, H, W), NaN where
    there is no truth. The loss is :func:`recon.tasks.losses.masked_cosine`; the metrics are
    ``mean_angle`` and ``median_angle`` in degrees, and ``within_11_25``, ``within_22_5`` and
    ``within_30``, the fractions of pixels with a smaller angle than that.

    >>> import torch
    >>> task = normals("normals")
    >>> ahead = torch.tensor([0.0, 0.0, 1.0]).view(1, 3, 1, 1)
    >>> task.loss(5 * ahead, ahead).item()
    0.0

    Args:
        name: The task's name.
        aggregation: Metrics over the whole ``"dataset"``, or ``"per_batch"`` and averaged.

    Raises:
        ValueError: An unknown aggregation, or a name that cannot be used.
    """
    metrics = aggregated(_normals_metrics, aggregation)
    return Task(name, masked_cosine, metrics, 3, _unit_vectors, paint_normals, normal_legend, valid_items)


def _segmentation_metrics(classes: int) -> "dict[str, Metric]":
    from recon.tasks.metrics import MeanIoU, PixelAccuracy

    return {"miou": MeanIoU(classes), "pixel_accuracy": PixelAccuracy(classes)}


def _part_metrics(classes: int) -> "dict[str, Metric]":
    from recon.tasks.metrics import MeanIoU

    return {"miou": MeanIoU(classes, without_truth=math.nan)}


def _depth_metrics() -> "dict[str, Metric]":
    from recon.tasks.metrics import AbsoluteError, RelativeError

    return {"absolute_error": AbsoluteError(), "relative_error": RelativeError()}


def _normals_metrics() -> "dict[str, Metric]":
    from recon.tasks.metrics import MeanAngle, MedianAngle, WithinAngle

    # Lightning and torchmetrics keep metrics as submodules, whose names cannot have a point.
    within = {f"within_{degrees:g}".replace(".", "_"): WithinAngle(degrees) for degrees in (11.25, 22.5, 30)}
    return {"mean_angle": MeanAngle(), "median_angle": MedianAngle(), **within}


def aggregated(
    metrics: "Callable[[], dict[str, Metric]]", aggregation: Aggregation
) -> "Callable[[], dict[str, Metric]]":
    """The metrics over the whole data set, or the mean of each batch's value.

    Raises:
        ValueError: An unknown aggregation.
    """
    if aggregation not in get_args(Aggregation):
        raise unknown_name("aggregation", aggregation, get_args(Aggregation))
    return metrics if aggregation == "dataset" else partial(_per_batch, metrics)


def _per_batch(metrics: "Callable[[], dict[str, Metric]]") -> "dict[str, Metric]":
    from recon.tasks.per_batch import PerBatch

    return {name: PerBatch(name, metric) for name, metric in metrics().items()}


def _unit_vectors(prediction: Tensor) -> Tensor:
    return nn.functional.normalize(prediction, dim=1)
