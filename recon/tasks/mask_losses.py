"""Losses of a yes or no at every pixel, where one of both is rare.

Xie & Tu, "Holistically-Nested Edge Detection", ICCV 2015, eq. 2: w times the cross-entropy of the
positive pixels and 1 - w times that of the negative ones. Theirs is a sum; the mean over all pixels
with truth is that of Maninis et al., "Attentive Single-Tasking of Multiple Tasks", CVPR 2019.
"""

import torch
from torch import Tensor
from torch.nn import functional

from recon.tasks.losses import UNLABELLED, mean_over, refuse_other_labels


def weighted_mask_loss(logits: Tensor, labels: Tensor, positive_weight: float) -> Tensor:
    """Mean cross-entropy over the pixels with truth, the positive ones of a fixed weight.

    >>> labels = torch.tensor([[[1, 0, -1]]])
    >>> round(weighted_mask_loss(torch.zeros(1, 1, 1, 3), labels, positive_weight=0.95).item(), 4)
    0.3466

    Args:
        logits: (B, 1, H, W).
        labels: (B, H, W), int64; 1, 0, or -1 for none.
        positive_weight: Weight w of positive pixels; negative ones have 1 - w.

    Returns:
        A scalar; 0 without any truth.

    Raises:
        ValueError: Other shapes, or labels of another type; on the CPU, other labels. On CUDA such
            a label is torch's asynchronous ``RuntimeError``.
    """
    check_mask(logits, labels)
    weights = torch.where(labels == 1, positive_weight, 1 - positive_weight)
    return _mean(logits, labels, weights.to(logits.dtype))


def balanced_mask_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy, with the share of negatives in the batch as the weight of positives.

    Both kinds of pixels have the same weight together. A batch that has only one of them has loss
    0, as published.

    >>> labels = torch.tensor([[[1, 0], [0, 0]]])
    >>> round(balanced_mask_loss(torch.zeros(1, 1, 2, 2), labels).item(), 4)
    0.2599

    Args:
        logits: (B, 1, H, W).
        labels: (B, H, W), int64; 1, 0, or -1 for none.

    Returns:
        A scalar; 0 without any truth.

    Raises:
        ValueError: Other shapes, or labels of another type; on the CPU, other labels. On CUDA such
            a label is torch's asynchronous ``RuntimeError``.
    """
    check_mask(logits, labels)
    negative = ((labels == 0).sum() / (labels != UNLABELLED).sum().clamp(min=1)).to(logits.dtype)
    return _mean(logits, labels, torch.where(labels == 1, negative, 1 - negative))


def check_mask(logits: Tensor, labels: Tensor) -> None:
    """Refuse logits and labels other than (B, 1, H, W) and (B, H, W) int64."""
    if logits.dim() != 4 or logits.shape[1] != 1 or labels.shape != logits[:, 0].shape:
        raise ValueError(
            f"logits of shape {tuple(logits.shape)} do not go with labels of shape {tuple(labels.shape)}; "
            "they should be (B, 1, H, W) and (B, H, W)"
        )
    if labels.dtype != torch.int64:
        raise ValueError(f"labels are {labels.dtype}; convert them to torch.int64, with -1 where there is no label")


def _mean(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    valid = labels != UNLABELLED
    known = torch.where(valid, labels, 0)
    refuse_other_labels(known, "the target has")
    truth = known.to(logits.dtype)
    errors = functional.binary_cross_entropy_with_logits(logits.squeeze(1), truth, reduction="none")
    return mean_over(valid, weights * errors)
