"""Losses of the built-in tasks: means over the samples or pixels with truth.

Classification takes :func:`labelled_cross_entropy`, segmentation :func:`masked_cross_entropy`,
depth :func:`masked_l1` and normals :func:`masked_cosine`. :mod:`recon.tasks.per_image` and
:mod:`recon.tasks.per_pixel` say so, and give each task its metrics.

The target itself marks items without truth: -1 among labels, NaN in everything else. A batch
without any truth has loss 0 and gradients 0, so it neither trains nor stops anything.

Losses check shapes and types, which costs nothing on any device; metrics check values. Losses of a
yes or no check values too, since torch has a number for every label there.
"""

import torch
from torch import Tensor
from torch.nn import functional

from recon.errors import number_of

UNLABELLED = -1
"""The label of a sample or pixel without truth."""


def valid_items(target: Tensor) -> Tensor:
    """The samples or pixels where a target has truth.

    >>> valid_items(torch.tensor([[[0, -1]]]))
    tensor([[[ True, False]]])

    Args:
        target: Labels (B,) or (B, H, W) of an integer type, or values (B, C) or (B, C, H, W) of a
            floating type.

    Returns:
        (B,) or (B, H, W), bool: the label is not -1, or all channels are finite.
    """
    return target.isfinite().all(1) if target.is_floating_point() else target != UNLABELLED


def labelled_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy over the labelled samples.

    >>> labels = torch.tensor([1, -1])
    >>> round(labelled_cross_entropy(torch.zeros(2, 2), labels).item(), 4)
    0.6931

    Args:
        logits: (B, C).
        labels: (B,), int64, in [0, C), or -1 for no label. Or probabilities (B, C), floating, NaN
            for none.

    Returns:
        A scalar; 0 without any label.

    Raises:
        IndexError: A label is out of bounds.
    """
    valid = valid_items(labels)
    if labels.is_floating_point():  # filled before the loss: a gradient of zero times NaN is NaN
        labels = torch.where(valid.unsqueeze(1), labels, 0)
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))  # as in mean_over
    total = functional.cross_entropy(wide, labels, ignore_index=UNLABELLED, reduction="sum")
    mean = total / _count(valid)  # torch's mean of nothing would be NaN
    return mean.to(torch.promote_types(logits.dtype, labels.dtype))


def masked_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy over the labelled pixels.

    >>> labels = torch.tensor([[[1, -1]]])
    >>> round(masked_cross_entropy(torch.zeros(1, 2, 1, 2), labels).item(), 4)
    0.6931

    Args:
        logits: (B, C, H, W).
        labels: (B, H, W), int64, in [0, C), or -1 for no label.

    Returns:
        A scalar; 0 without any label.

    Raises:
        ValueError: Other shapes, or labels of another type.
    """
    check_labels(logits, labels)
    # Not summed by the kernel: its sum is not deterministic on an accelerator, and its mean of
    # nothing is NaN.
    errors = functional.cross_entropy(logits, labels, ignore_index=UNLABELLED, reduction="none")
    return mean_over(valid_items(labels), errors)


def masked_l1(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean absolute error over the pixels with a value.

    >>> target = torch.tensor([[[[2.0, float("nan")]]]])
    >>> masked_l1(torch.tensor([[[[2.5, 9.0]]]]), target)
    tensor(0.5000)

    Args:
        prediction: (B, 1, H, W).
        target: (B, 1, H, W), NaN where there is no truth.

    Returns:
        A scalar; 0 without any truth.

    Raises:
        ValueError: Other shapes.
    """
    check_values(prediction, target, channels=1)
    valid = target.isfinite()
    return mean_over(valid, torch.where(valid, prediction - target, 0).abs())


def masked_cosine(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean of 1 - cos(angle between the vectors) over the pixels with a vector.

    Neither needs to be of unit length. A prediction of length zero has cosine zero.

    >>> right, up = torch.eye(3)[:2].view(2, 1, 3, 1, 1)
    >>> masked_cosine(right, up)
    tensor(1.)

    Args:
        prediction: (B, 3, H, W).
        target: (B, 3, H, W), NaN where there is no truth.

    Returns:
        A scalar; 0 without any truth.

    Raises:
        ValueError: Other shapes.
    """
    check_values(prediction, target, channels=3)
    valid = valid_items(target)
    # The target is filled before the cosine, not the cosine after: a gradient of zero times NaN is
    # NaN. Shorter predictions count as this long: the gradient of a direction grows without bound
    # towards length zero.
    cosines = functional.cosine_similarity(prediction, torch.where(valid[:, None], target, 0), dim=1, eps=1e-3)
    return mean_over(valid, 1 - cosines)


def mean_over(valid: Tensor, errors: Tensor) -> Tensor:
    """The mean of the errors where there is truth; 0 without any.

    Halves are summed in float32: a sum of float16 is infinite beyond 65,504.

    >>> mean_over(torch.tensor([True, False, True]), torch.tensor([1.0, 5.0, 2.0]))
    tensor(1.5000)

    Args:
        valid: Which items have truth, bool.
        errors: Of the same shape.

    Returns:
        A scalar, of the type of the errors.
    """
    wide = torch.promote_types(errors.dtype, torch.float32)
    return (torch.where(valid, errors, 0).sum(dtype=wide) / _count(valid)).to(errors.dtype)


def refuse_other_labels(labels: Tensor, where: str) -> None:
    """Refuse labels outside [0, 1] of a yes or no.

    Args:
        labels: Labels, those without truth filled.
        where: The start of the error, such as ``"task 'edges' has"``.

    Raises:
        ValueError: On the CPU. On CUDA it is torch's asynchronous ``RuntimeError``, since a look at
            the values would make each step wait.
    """
    wrong = (labels < 0) | (labels > 1)
    rule = "a label is 0, 1 or a probability, and -1 where there is none"
    if labels.device.type == "cuda" or torch.compiler.is_compiling():
        torch._assert_async(~wrong.any(), f"{where} a label outside [0, 1]; {rule}")
    elif labels.device.type == "cpu" and wrong.any():
        values = labels[wrong]
        raise ValueError(
            f"{where} {number_of(len(values), 'label')} outside [0, 1], such as {values[0].item():g}; {rule}"
        )


def check_labels(logits: Tensor, labels: Tensor) -> None:
    """Refuse logits and labels other than (B, C, H, W) and (B, H, W) int64."""
    if logits.ndim != 4 or labels.shape != logits[:, 0].shape:
        raise ValueError(
            f"logits of shape {tuple(logits.shape)} do not go with labels of shape {tuple(labels.shape)}; "
            "they should be (B, C, H, W) and (B, H, W)"
        )
    if labels.dtype != torch.int64:
        raise ValueError(f"labels are {labels.dtype}; convert them to torch.int64, with -1 where there is no label")


def check_values(prediction: Tensor, target: Tensor, channels: int) -> None:
    """Refuse a prediction and a target that are not both (B, channels, H, W)."""
    if prediction.ndim != 4 or prediction.shape != target.shape or prediction.shape[1] != channels:
        raise ValueError(
            f"a prediction of shape {tuple(prediction.shape)} does not go with a target of shape "
            f"{tuple(target.shape)}; both should be (B, {channels}, H, W)"
        )


def _count(valid: Tensor) -> Tensor:
    return valid.sum().clamp(min=1)
