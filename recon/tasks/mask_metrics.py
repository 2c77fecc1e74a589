"""Metrics of a yes or no at every pixel, at the best of several thresholds.

Counts at all thresholds come from one histogram of the probabilities, so memory does not grow with
the set. Without any truth a value is NaN. Metrics raise a ``ValueError`` for values that they
cannot judge: other shapes, a label other than 0 and 1, a logit that is not a number.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric

from recon.errors import number_of
from recon.tasks.losses import UNLABELLED
from recon.tasks.mask_losses import check_mask


class _AtThresholds(Metric):
    """The part that both metrics have.

    Args:
        thresholds: Probabilities, ascending.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    plot_lower_bound = 0.0
    plot_upper_bound = 1.0
    thresholds: Tensor

    def __init__(self, thresholds: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("thresholds", torch.tensor(thresholds), persistent=False)

    def _counts(self, logits: Tensor, labels: Tensor, reached_at: bool) -> Tensor:
        """How many pixels of each image there are, and are positive at each threshold, by label.

        Args:
            logits: (B, 1, H, W).
            labels: (B, H, W), -1 for none.
            reached_at: Whether a probability equal to a threshold is positive.

        Returns:
            (B, 2, 1 + T), int64.
        """
        _check_values(logits, labels)
        bins = len(self.thresholds) + 1
        above = torch.bucketize(logits.squeeze(1).float().sigmoid(), self.thresholds, right=reached_at)
        image = torch.arange(len(labels), device=labels.device).view(-1, 1, 1)
        place = (2 * image + labels) * bins + above  # without truth it is another's, and is left out
        histogram = torch.bincount(place[labels != UNLABELLED], minlength=2 * bins * len(labels))
        return histogram.view(len(labels), 2, bins).flip(2).cumsum(2).flip(2)


class MaxF(_AtThresholds):
    """The F-measure at the best threshold, of the pixels of all images together.

    F = (1 + beta^2) precision recall / (beta^2 precision + recall).

    >>> metric = MaxF([0.25, 0.5, 0.75])
    >>> logits = torch.logit(torch.tensor([[[[0.9, 0.6, 0.4, 0.1]]]]))
    >>> metric.update(logits, torch.tensor([[[1, 0, 1, 0]]]))
    >>> round(metric.compute().item(), 4)
    0.8

    Args:
        thresholds: Probabilities, ascending; a pixel is positive from a threshold on.
        beta_squared: Weight of recall beside precision.
    """

    counts: Tensor

    def __init__(self, thresholds: Sequence[float], beta_squared: float = 1.0) -> None:
        super().__init__(thresholds)
        self.beta_squared = beta_squared
        self.add_state("counts", torch.zeros(2, len(thresholds) + 1, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add a batch.

        Args:
            preds: Logits, (B, 1, H, W).
            target: Labels, (B, H, W), int64, -1 for none.
        """
        self.counts = self.counts + self._counts(preds, target, reached_at=True).sum(0)

    def compute(self) -> Tensor:
        """The largest F-measure; 0 if nothing is right at any threshold, NaN without any truth."""
        false, right = self.counts[:, 1:].double()
        positives = self.counts[1, 0]
        # The formula above, multiplied out: there is no precision where nothing is predicted.
        f = (1 + self.beta_squared) * right / (self.beta_squared * positives + right + false).clamp(min=1e-12)
        return torch.where(self.counts.any(), f.max(), math.nan).float()


class MaxMeanIoU(_AtThresholds):
    """Intersection over union, averaged over images, at the threshold where the mean is best.

    An image without any positive pixel, predicted or true, counts as 1; one without truth does not
    count.

    >>> metric = MaxMeanIoU([0.25, 0.5])
    >>> logits = torch.logit(torch.tensor([[[[0.9, 0.6, 0.4, 0.1]]]]))
    >>> metric.update(logits, torch.tensor([[[1, 1, 1, 0]]]))
    >>> metric.compute()
    tensor(1.)

    Args:
        thresholds: Probabilities, ascending; a pixel is positive above a threshold.
    """

    iou_sums: Tensor
    images: Tensor

    def __init__(self, thresholds: Sequence[float]) -> None:
        super().__init__(thresholds)
        self.add_state("iou_sums", torch.zeros(len(thresholds), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("images", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add a batch.

        Args:
            preds: Logits, (B, 1, H, W).
            target: Labels, (B, H, W), int64, -1 for none.
        """
        counts = self._counts(preds, target, reached_at=False).double()
        counts = counts[counts[:, :, 0].sum(1) > 0]
        false, right = counts[:, :, 1:].unbind(1)
        union = counts[:, 1, :1] + false
        self.iou_sums = self.iou_sums + torch.where(union > 0, right / union.clamp(min=1), 1.0).sum(0)
        self.images = self.images + len(counts)

    def compute(self) -> Tensor:
        """The largest mean; NaN without any image."""
        return (self.iou_sums.max() / self.images).float()


def _check_values(logits: Tensor, labels: Tensor) -> None:
    check_mask(logits, labels)
    wrong = labels[(labels < UNLABELLED) | (labels > 1)]
    if len(wrong):
        raise ValueError(
            f"{number_of(len(wrong), 'pixel has', 'pixels have')} label {wrong[0].item()} or another out of "
            f"range; a label is 0 or 1, and {UNLABELLED} where there is none"
        )
    if logits.squeeze(1)[labels != UNLABELLED].isnan().any():
        raise ValueError("a logit is not a number; the network has diverged")
