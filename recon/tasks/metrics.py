"""Metrics of dense prediction over all pixels with truth, however the set is batched.

Metrics of torchmetrics where it has them; angles between vectors are here. Memory does not grow
with the set. Where no pixel at all had truth, a fraction (mean IoU, pixel accuracy, within an
angle) is 0, and an error (of depths, of angles) is NaN, because 0 would look perfect.

Metrics raise a ``ValueError`` for values that they cannot judge: other shapes, a label that is no
class, a true depth that is not positive, a true vector without direction.

``MetricCollection`` updates metrics together if their states have the same names and are equal
after the first batch, which may have no truth at all. So metrics here have states of the same names
only if these are always equal.
"""

import math

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex
from torchmetrics.regression import MeanAbsoluteError, MeanAbsolutePercentageError

from recon.errors import NotFinite, number_of
from recon.tasks.losses import UNLABELLED, check_labels, check_values, valid_items

BINS_PER_DEGREE = 1000


class MeanIoU(MulticlassJaccardIndex):
    """Intersection over union of predicted and true pixels, averaged over classes, in [0, 1].

    A class that is neither predicted nor true at any labelled pixel does not count.

    >>> metric = MeanIoU(classes=2)
    >>> logits = torch.tensor([[[[2.0, 2.0]], [[1.0, 1.0]]]])
    >>> metric.update(logits, torch.tensor([[[0, 1]]]))
    >>> metric.compute()
    tensor(0.2500)

    Args:
        classes: Number of classes.
        without_truth: The value without any labelled pixel.
    """

    def __init__(self, classes: int, without_truth: float = 0.0) -> None:
        super().__init__(classes, ignore_index=UNLABELLED, validate_args=False)
        self.without_truth = without_truth

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add a batch.

        Args:
            preds: Logits, (B, C, H, W).
            target: Labels, (B, H, W), int64, -1 for none.
        """
        _check_classes(preds, target, self.num_classes)
        super().update(preds, target)

    def compute(self) -> Tensor:
        """The mean over the classes that count; ``without_truth`` if there is none."""
        return super().compute() if self.confmat.any() else torch.full((), self.without_truth, device=self.device)


class PixelAccuracy(MulticlassAccuracy):
    """Fraction of the labelled pixels whose most likely class is the true one.

    Args:
        classes: Number of classes.
    """

    def __init__(self, classes: int) -> None:
        super().__init__(classes, average="micro", ignore_index=UNLABELLED, validate_args=False)
        self.classes = classes

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add a batch.

        Args:
            preds: Logits, (B, C, H, W).
            target: Labels, (B, H, W), int64, -1 for none.
        """
        _check_classes(preds, target, self.classes)
        super().update(preds, target)


class _OfDepths(Metric):
    """A mixin: sums in float64, over the pixels with truth."""

    def __init__(self) -> None:
        super().__init__()
        self.set_dtype(torch.float64)

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add a batch.

        Args:
            preds: (B, 1, H, W).
            target: (B, 1, H, W), positive, NaN where there is no truth.
        """
        super().update(*_depths(preds, target))  # type: ignore[safe-super]  # that of the metric mixed in


class AbsoluteError(_OfDepths, MeanAbsoluteError):
    """Mean of |prediction - truth| over the pixels with truth."""


class RelativeError(_OfDepths, MeanAbsolutePercentageError):
    """Mean of |prediction - truth| / truth over the pixels with truth; a fraction, not percent."""


class AngularMetric(Metric):
    """The sum of the angles between vectors, and a histogram of them in 0.001 degree bins.

    Vectors may have any length. A prediction of length zero has no direction, and counts as 90
    degrees.
    """

    is_differentiable = False
    full_state_update = False
    plot_lower_bound = 0.0
    plot_upper_bound = 180.0
    histogram: Tensor
    angle_sum: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("histogram", torch.zeros(180 * BINS_PER_DEGREE, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("angle_sum", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Add a batch.

        Args:
            prediction: (B, 3, H, W).
            target: (B, 3, H, W), NaN where there is no truth.
        """
        angles = _angles(*_vectors(prediction, target))
        bins = (angles * BINS_PER_DEGREE).long().clamp(max=len(self.histogram) - 1)  # 180 degrees is in the last bin
        self.histogram = self.histogram + torch.bincount(bins, minlength=len(self.histogram))
        self.angle_sum = self.angle_sum + angles.sum()


class MeanAngle(AngularMetric):
    """Mean angle, in degrees."""

    higher_is_better = False

    def compute(self) -> Tensor:
        """The mean; NaN without truth."""
        return self.angle_sum / self.histogram.sum()


class MedianAngle(AngularMetric):
    """Median angle, in degrees, exact to 0.001; of an even number, the mean of the middle two."""

    higher_is_better = False

    def compute(self) -> Tensor:
        """The median; NaN without truth."""
        up_to = self.histogram.cumsum(0)
        count = up_to[-1]
        middle = torch.stack([(count - 1) // 2, count // 2])
        bins = torch.searchsorted(up_to, middle, right=True)
        median = (bins.double() + 0.5).mean() / BINS_PER_DEGREE
        return torch.where(count > 0, median, math.nan)


class WithinAngle(AngularMetric):
    """Fraction of the pixels whose angle is below a threshold.

    >>> metric = WithinAngle(30.0)
    >>> truth = torch.tensor([0.0, 0.0, 1.0]).view(1, 3, 1, 1)
    >>> metric.update(truth + 0.1, truth)
    >>> metric.compute()
    tensor(1.)

    Args:
        degrees: The threshold, a multiple of 0.001 between 0 and 180.

    Raises:
        ValueError: Another threshold.
    """

    higher_is_better = True
    plot_upper_bound = 1.0

    def __init__(self, degrees: float) -> None:
        super().__init__()
        self.bins = round(degrees * BINS_PER_DEGREE)
        if not 0 < degrees < 180 or not math.isclose(self.bins, degrees * BINS_PER_DEGREE):
            raise ValueError(f"degrees={degrees} is not a multiple of 0.001 between 0 and 180")

    def compute(self) -> Tensor:
        """The fraction; 0 without truth."""
        return self.histogram[: self.bins].sum() / self.histogram.sum().clamp(min=1)


def _check_classes(logits: Tensor, labels: Tensor, classes: int) -> None:
    check_labels(logits, labels)
    if logits.shape[1] != classes:
        raise ValueError(f"logits have {logits.shape[1]} channels; {classes} classes need one each")
    wrong = labels[(labels < UNLABELLED) | (labels >= classes)]
    if len(wrong):
        raise ValueError(
            f"{number_of(len(wrong), 'pixel has', 'pixels have')} label {wrong[0].item()} or another out of "
            f"range; labels are 0 to {classes - 1}, and {UNLABELLED} where there is none"
        )


def _depths(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Prediction and truth where there is truth, each (N,), float64."""
    check_values(prediction, target, channels=1)
    valid = target.isfinite()
    prediction, target = prediction[valid].double(), target[valid].double()
    if (target <= 0).any():
        raise ValueError(
            f"true depth {target.min().item():g} is not positive, and has no relative error; "
            "set the target to NaN where there is no truth"
        )
    return prediction, target


def _vectors(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Prediction and truth where there is truth, each (N, 3), float64."""
    check_values(prediction, target, channels=3)
    valid = valid_items(target)
    prediction, target = (tensor.movedim(1, -1)[valid].double() for tensor in (prediction, target))
    if not prediction.isfinite().all():
        raise NotFinite("a predicted vector is not finite, and has no angle; the network has diverged")
    if not target.any(1).all():
        raise ValueError("a true vector is zero, and has no direction; set the target to NaN where there is no truth")
    return prediction, target


def _angles(prediction: Tensor, target: Tensor) -> Tensor:
    """Angles in degrees, (N,), between vectors (N, 3). The arc cosine would lose small ones."""
    across = torch.linalg.cross(prediction, target).norm(dim=1)
    along = (prediction * target).sum(1)
    angles = torch.rad2deg(torch.atan2(across, along))
    return torch.where(prediction.any(1), angles, 90.0)
