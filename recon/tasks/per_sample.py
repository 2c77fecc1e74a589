"""Tasks with a yes or no, several labels, or numbers per sample."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from torch import Tensor

from recon.errors import number_of
from recon.tasks.sample_losses import (
    RegressionLoss,
    labelled_binary_cross_entropy,
    regression_loss,
    valid_labels,
    valid_numbers,
)
from recon.tasks.task import Task

if TYPE_CHECKING:  # torchmetrics is slow to import, and a plain training loop does not need it
    from torchmetrics import Metric


def binary(name: str, positive_weight: float = 1.0) -> Task:
    """A task with a yes or no per sample.

    Predictions are logits (B, 1), targets labels (B,): 1 for yes, 0 for no, -1 (or NaN in a
    floating target) for a sample without a label. The loss is
    :func:`recon.tasks.sample_losses.labelled_binary_cross_entropy`. The metrics are ``auroc``,
    ``average_precision`` and ``accuracy``, in [0, 1] and over the whole evaluation set; the first
    two are exact, without bins. An estimate is the label whose probability is above one half.

    >>> import torch
    >>> task = binary("smiling")
    >>> round(task.loss(torch.zeros(3, 1), torch.tensor([1, 0, -1])).item(), 4)
    0.6931
    >>> list(task.metrics()), task.outputs
    (['auroc', 'average_precision', 'accuracy'], 1)

    Args:
        name: The task's name.
        positive_weight: Weight of a sample whose label is 1, relative to one whose label is 0. For
            rare positives a usual choice is the number of negatives per positive.

    Raises:
        ValueError: A weight that is not positive, or a name that cannot be used.
    """
    weight = _weights(name, (positive_weight,))
    return Task(
        name,
        partial(labelled_binary_cross_entropy, positive_weight=weight, task=name),
        partial(_label_metrics, 1),
        1,
        _likely_label,
        valid=valid_labels,
    )


def multilabel(name: str, labels: int, positive_weight: float | Sequence[float] = 1.0) -> Task:
    """A task with several labels per sample, each a yes or no, behind one head.

    Predictions are logits (B, labels), targets labels (B, labels): 1, 0, or -1 (NaN in a floating
    target) where one is missing. The loss and the metrics are those of :func:`binary`: the loss is
    the mean over all labels that are there, ``auroc`` and ``average_precision`` are means over the
    labels of which the evaluation set has both values, and ``accuracy`` is the fraction of all
    labels that are right.

    The labels share one gradient. To let each have its own, give as many :func:`binary` tasks.

    >>> import torch
    >>> task = multilabel("functions", labels=3)
    >>> target = torch.tensor([[1, 0, -1], [0, 0, 1]])
    >>> round(task.loss(torch.zeros(2, 3), target).item(), 4), task.count(target)
    (0.6931, 5)

    Args:
        name: The task's name.
        labels: Number of labels.
        positive_weight: Weight of a label that is 1, relative to one that is 0; one number, or one
            for each label.

    Raises:
        ValueError: No labels, another number of weights, a weight that is not positive, or a name
            that cannot be used.
    """
    if labels < 1:
        raise ValueError(f"task {name!r} has labels={labels}; multilabel needs at least one")
    weight = (positive_weight,) if isinstance(positive_weight, int | float) else tuple(positive_weight)
    if len(weight) not in (1, labels):
        raise ValueError(
            f"task {name!r} has {number_of(len(weight), 'positive weight')} for {number_of(labels, 'label')}; "
            "give one, or one each"
        )
    return Task(
        name,
        partial(labelled_binary_cross_entropy, positive_weight=_weights(name, weight), task=name),
        partial(_label_metrics, labels),
        labels,
        _likely_labels,
        valid=valid_labels,
    )


def regression(
    name: str,
    outputs: int = 1,
    loss: RegressionLoss = "mse",
    scale: float | Sequence[float] = 1.0,
    huber_delta: float = 1.0,
) -> Task:
    """A task with one or more numbers per sample.

    Predictions are numbers (B, outputs), in units of ``scale``, targets numbers (B, outputs), or
    (B,) with one output, floating and in their own unit, NaN where there is none. The loss is
    :func:`recon.tasks.sample_losses.regression_loss` of prediction and ``target / scale``, so tasks
    of different units have losses of the same size. The metrics ``mse`` and ``mae`` and the
    estimate are in the target's unit.

    >>> import torch
    >>> task = regression("price", scale=1000.0)
    >>> task.loss(torch.tensor([[2.5]]), torch.tensor([[2000.0]])).item()
    0.25
    >>> task.estimated(torch.tensor([[2.5]])).item()
    2500.0

    Args:
        name: The task's name.
        outputs: How many numbers a sample has.
        loss: ``"mse"``, the squared error; ``"mae"``, the absolute error; or ``"huber"``.
        scale: Size of the targets, such as their standard deviation; one number, or one for each
            output.
        huber_delta: For ``"huber"``, the error at which its loss goes on linearly, in units of
            ``scale``.

    Raises:
        ValueError: An unknown loss, another number of scales, a scale or delta that is not
            positive, or a name that cannot be used.
    """
    scales = (scale,) if isinstance(scale, int | float) else tuple(scale)
    if len(scales) not in (1, outputs):
        raise ValueError(f"task {name!r} has {len(scales)} scales for {outputs} outputs; give one, or one each")
    _check_positive(name, "scale", scales)
    _check_positive(name, "huber_delta", (huber_delta,))
    return Task(
        name,
        regression_loss(loss, scales, huber_delta),
        partial(_number_metrics, scales),
        outputs,
        partial(_in_own_unit, scales),
        valid=valid_numbers,
    )


def _weights(name: str, weights: tuple[float, ...]) -> tuple[float, ...] | None:
    """The weights of positives, or ``None`` if they change nothing."""
    _check_positive(name, "positive_weight", weights)
    return None if set(weights) == {1.0} else weights


def _check_positive(name: str, key: str, values: tuple[float, ...]) -> None:
    for value in values:
        if not 0 < value < float("inf"):
            raise ValueError(f"task {name!r} has {key}={value}; give a positive number")


def _likely_label(logits: Tensor) -> Tensor:
    return _likely_labels(logits).squeeze(1)


def _likely_labels(logits: Tensor) -> Tensor:
    return (logits > 0).long()


def _in_own_unit(scales: tuple[float, ...], prediction: Tensor) -> Tensor:
    return prediction * prediction.new_tensor(scales)


def _label_metrics(labels: int) -> "dict[str, Metric]":
    from recon.tasks.sample_metrics import AUROC, AveragePrecision, LabelAccuracy

    return {"auroc": AUROC(labels), "average_precision": AveragePrecision(labels), "accuracy": LabelAccuracy()}


def _number_metrics(scales: tuple[float, ...]) -> "dict[str, Metric]":
    from recon.tasks.sample_metrics import MeanAbsoluteNumberError, MeanSquaredNumberError

    return {"mse": MeanSquaredNumberError(scales), "mae": MeanAbsoluteNumberError(scales)}
