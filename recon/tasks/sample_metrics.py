"""Metrics of labels and of numbers per sample, over the whole evaluation set.

torchmetrics computes them. AUROC and average precision are exact for logits of at most float32:
they keep every logit in float32, and take their order only. torchmetrics itself would take the
logits of a batch for probabilities if all of them happen to lie in [0, 1], and would round those
far from zero to 1.

Without any truth a value is NaN. Metrics raise a ``ValueError`` for values that they cannot judge:
other shapes, a label other than 0 and 1, a logit that is not a number.
"""

import math
from abc import abstractmethod

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.classification import BinaryAccuracy
from torchmetrics.functional.classification import binary_auroc, binary_average_precision
from torchmetrics.regression import MeanAbsoluteError, MeanSquaredError
from torchmetrics.utilities import dim_zero_cat

from recon.errors import number_of
from recon.tasks.losses import UNLABELLED
from recon.tasks.sample_losses import check_columns, valid_labels


class OrderMetric(Metric):
    """Logits and labels of the whole set, and the mean over labels of a value of their order.

    A label of which the set does not have both values, 0 and 1, does not count. Without any that
    counts, the value is 0; without any truth at all, NaN.

    Args:
        labels: Number of labels of a sample.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    plot_lower_bound = 0.0
    plot_upper_bound = 1.0
    logits: list[Tensor]
    truth: list[Tensor]

    def __init__(self, labels: int = 1) -> None:
        super().__init__()
        self.labels = labels
        # Flat and all float32, so that a process without any sample has states of the same form.
        self.set_dtype(torch.float32)
        self.add_state("logits", [], dist_reduce_fx="cat")
        self.add_state("truth", [], dist_reduce_fx="cat")

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add a batch.

        Args:
            preds: Logits, (B, labels).
            target: (B, labels), or (B,) for one label; 0, 1, or -1 (NaN) for none.
        """
        truth = _checked_labels(preds, target)
        self.logits.append(preds.detach().float().flatten())
        self.truth.append(truth.float().flatten())

    def compute(self) -> Tensor:
        """The mean over the labels that count."""
        if not len(self.logits):
            return _nan(self.device)
        logits = dim_zero_cat(self.logits).reshape(-1, self.labels)
        truth = dim_zero_cat(self.truth).long().reshape(-1, self.labels)
        if not (truth != UNLABELLED).any():
            return _nan(self.device)
        values = [self._value(*one) for one in zip(logits.unbind(1), truth.unbind(1), strict=True) if _has_both(one[1])]
        return torch.stack(values).mean() if values else torch.zeros((), device=self.device)

    def _value(self, logits: Tensor, truth: Tensor) -> Tensor:
        known = truth != UNLABELLED
        _, ranks = torch.unique(logits[known], return_inverse=True)
        return self.of_scores(ranks.double() / ranks.max().clamp(min=1), truth[known]).float()

    @abstractmethod
    def of_scores(self, scores: Tensor, truth: Tensor) -> Tensor:
        """The value of one label: scores (N,) in [0, 1], and the truth (N,), 0 or 1."""


class AUROC(OrderMetric):
    """Probability that a positive sample has a larger logit than a negative one; ties are half.

    >>> metric = AUROC()
    >>> metric.update(torch.tensor([[3.0], [0.2], [0.9], [-2.0]]), torch.tensor([1, 0, 1, 1]))
    >>> round(metric.compute().item(), 4)
    0.6667
    """

    def of_scores(self, scores: Tensor, truth: Tensor) -> Tensor:
        return binary_auroc(scores, truth)


class AveragePrecision(OrderMetric):
    """Mean of the precision at each positive sample, in the order of the logits.

    >>> metric = AveragePrecision()
    >>> metric.update(torch.tensor([[3.0], [0.2], [0.9], [-2.0]]), torch.tensor([1, 1, 0, 0]))
    >>> round(metric.compute().item(), 4)
    0.8333
    """

    def of_scores(self, scores: Tensor, truth: Tensor) -> Tensor:
        value = binary_average_precision(scores, truth)
        assert isinstance(value, Tensor)
        return value


class LabelAccuracy(BinaryAccuracy):
    """Fraction of the labels that are there whose logit has the right sign; zero says no.

    >>> metric = LabelAccuracy()
    >>> metric.update(torch.tensor([[0.2, -1.0]]), torch.tensor([[1, 1]]))
    >>> metric.compute()
    tensor(0.5000)
    """

    def __init__(self) -> None:
        super().__init__(ignore_index=UNLABELLED, validate_args=False)

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add a batch.

        Args:
            preds: Logits, (B, L).
            target: (B, L), or (B,) for one label; 0, 1, or -1 (NaN) for none.
        """
        truth = _checked_labels(preds, target)
        if truth.numel():  # torchmetrics cannot reshape an empty batch
            super().update((preds > 0).long().flatten(), truth.flatten())

    def compute(self) -> Tensor:
        """The fraction; NaN without any label."""
        counts = (self.tp, self.fp, self.tn, self.fn)
        return super().compute() if any(dim_zero_cat(count).any() for count in counts) else _nan(self.device)


class _OfNumbers(Metric):
    """A mixin: sums in float64, over the numbers that are there, in the target's unit."""

    def __init__(self, scale: tuple[float, ...] = (1.0,)) -> None:
        super().__init__()
        self.scale = scale
        self.set_dtype(torch.float64)

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add a batch.

        Args:
            preds: (B, C), in units of the scale.
            target: (B, C), or (B,) if C is 1; NaN for none.
        """
        target = check_columns(preds, target)
        valid = target.isfinite()
        numbers = preds.double() * torch.tensor(self.scale, dtype=torch.float64, device=preds.device)
        super().update(numbers[valid], target[valid].double())  # type: ignore[safe-super]  # that of the metric mixed in


class MeanSquaredNumberError(_OfNumbers, MeanSquaredError):
    """Mean of (prediction - truth)^2 over the numbers that are there, in the target's unit."""


class MeanAbsoluteNumberError(_OfNumbers, MeanAbsoluteError):
    """Mean of |prediction - truth| over the numbers that are there, in the target's unit."""


def _nan(device: torch.device) -> Tensor:
    return torch.full((), math.nan, device=device)


def _has_both(truth: Tensor) -> bool:
    return bool((truth == 0).any() and (truth == 1).any())


def _checked_labels(logits: Tensor, target: Tensor) -> Tensor:
    """Labels (B, L), int64, -1 for none."""
    target = check_columns(logits, target)
    valid = valid_labels(target).reshape(target.shape)
    known = target[valid]
    wrong = known[(known != 0) & (known != 1)]
    if len(wrong):
        raise ValueError(
            f"{number_of(len(wrong), 'label is', 'labels are')} {wrong[0].item()} or another out of range; a "
            f"label is 0 or 1, and {UNLABELLED} where there is none"
        )
    if logits[valid].isnan().any():
        raise ValueError("a logit is not a number; the network has diverged")
    return torch.where(valid, target.long(), UNLABELLED)  # first int64: uint8 has no -1
