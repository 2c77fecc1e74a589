"""Losses of a yes or no, of several labels, and of numbers per sample.

They are means over the items with truth, as the losses of :mod:`recon.tasks.losses` are. A batch
without any truth has loss 0 and gradients 0.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

from recon.errors import unknown_name
from recon.tasks.losses import UNLABELLED, mean_over, refuse_other_labels

RegressionLoss = Literal["mse", "mae", "huber"]
"""Squared error, absolute error, or squared up to a delta and linear beyond."""


def valid_labels(target: Tensor) -> Tensor:
    """The labels that are there: not -1, and finite if the target is floating.

    >>> valid_labels(torch.tensor([1, 0, -1]))
    tensor([ True,  True, False])

    Args:
        target: Labels (B,) or (B, L); a column (B, 1) is taken as (B,).

    Returns:
        bool, of the target's shape.
    """
    flat = target.squeeze(1) if target.dim() == 2 and target.shape[1] == 1 else target
    known = flat != UNLABELLED
    return known & flat.isfinite() if flat.is_floating_point() else known


def valid_numbers(target: Tensor) -> Tensor:
    """The numbers that are there: finite ones.

    Args:
        target: (B,) or (B, C), floating; a column (B, 1) is taken as (B,).

    Returns:
        bool, of the target's shape.
    """
    return (target.squeeze(1) if target.dim() == 2 and target.shape[1] == 1 else target).isfinite()


def labelled_binary_cross_entropy(
    logits: Tensor, labels: Tensor, positive_weight: Sequence[float] | None = None, task: str = "labels"
) -> Tensor:
    """Mean binary cross-entropy over the labels that are there.

    A weight w makes the term of a label y: w y log(1 + exp(-x)) + (1 - y) log(1 + exp(x)). The mean
    is over the number of labels, not over their weights, as in torch.

    >>> logits, labels = torch.zeros(2, 1), torch.tensor([1, -1])
    >>> round(labelled_binary_cross_entropy(logits, labels, positive_weight=[3.0]).item(), 4)
    2.0794

    Args:
        logits: (B, L).
        labels: (B, L), or (B,) if L is 1; 1 or 0, a probability in a floating target, -1 or NaN for
            none.
        positive_weight: Weight of the positive terms, one number or L of them; ``None`` for 1.
        task: The task's name, for errors.

    Returns:
        A scalar; 0 without any label.

    Raises:
        ValueError: Other shapes; on the CPU, a label outside [0, 1]. On CUDA, such a label is
            torch's asynchronous ``RuntimeError``, since a look at the values would make each step
            wait.
    """
    labels = check_columns(logits, labels)
    valid = valid_labels(labels).reshape(labels.shape)
    # Filled before the loss: a gradient of zero times NaN is NaN.
    known = torch.where(valid, labels, 0)
    refuse_other_labels(known, f"task {task!r} has")
    truth = known.to(logits.dtype)
    weight = None if positive_weight is None else logits.new_tensor(positive_weight)
    errors = functional.binary_cross_entropy_with_logits(logits, truth, pos_weight=weight, reduction="none")
    return mean_over(valid, errors)


def regression_loss(
    kind: RegressionLoss, scale: Sequence[float] = (1.0,), huber_delta: float = 1.0
) -> Callable[[Tensor, Tensor], Tensor]:
    """The loss of a kind: the mean error over the numbers that are there, in units of the scale.

    >>> regression_loss("mae")(torch.tensor([[1.0], [5.0]]), torch.tensor([[3.0], [float("nan")]]))
    tensor(2.)

    Args:
        kind: ``"mse"``, ``"mae"`` or ``"huber"``.
        scale: Size of the targets, one number or one for each output. Predictions are in this unit.
        huber_delta: The error at which the Huber loss goes on linearly, in units of the scale. The
            loss is 1/2 e^2 below it and delta (|e| - delta / 2) above, as torch defines it.

    Returns:
        A function of predictions (B, C) and targets (B, C), or (B,) if C is 1.

    Raises:
        ValueError: An unknown kind; when the loss is taken: other shapes.
    """
    if kind not in get_args(RegressionLoss):
        raise unknown_name("loss", kind, get_args(RegressionLoss))
    errors: dict[RegressionLoss, Callable[..., Tensor]] = {
        "mse": functional.mse_loss,
        "mae": functional.l1_loss,
        "huber": partial(functional.huber_loss, delta=huber_delta),
    }
    return partial(_mean_error, errors[kind], tuple(scale))


def check_columns(prediction: Tensor, target: Tensor) -> Tensor:
    """The target in the shape of the prediction, (B, C).

    Raises:
        ValueError: Other shapes than (B, C) and (B, C), or (B, 1) and (B,).
    """
    if prediction.dim() == 2 and prediction.shape == (*target.shape, 1):
        target = target.unsqueeze(1)
    if prediction.dim() != 2 or prediction.shape != target.shape:
        raise ValueError(
            f"a prediction of shape {tuple(prediction.shape)} does not go with a target of shape "
            f"{tuple(target.shape)}; they should be (B, C) and (B, C), or (B, 1) and (B,)"
        )
    return target


def _mean_error(errors: Callable[..., Tensor], scale: tuple[float, ...], prediction: Tensor, target: Tensor) -> Tensor:
    """Mean squared, absolute or Huber error over the numbers that are there."""
    target = check_columns(prediction, target)
    valid = target.isfinite()
    if scale != (1.0,):
        target = target / target.new_tensor(scale)
    # In the prediction's place, so that the error there is zero, and its gradient too.
    truth = torch.where(valid, target.to(prediction.dtype), prediction.detach())
    each = errors(prediction, truth, reduction="none")
    return mean_over(valid, each)
