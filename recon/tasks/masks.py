"""Tasks with a yes or no at every pixel: edges and saliency.

They follow the protocol of PASCAL-Context: Maninis et al., "Attentive Single-Tasking of Multiple
Tasks", CVPR 2019; Vandenhende et al., "MTI-Net", ECCV 2020; Ye & Xu, "Inverted Pyramid Multi-task
Transformer", ECCV 2022.
"""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from torch import Tensor

from recon.tasks.colours import label_legend, paint_probabilities
from recon.tasks.losses import valid_items
from recon.tasks.mask_losses import balanced_mask_loss, weighted_mask_loss
from recon.tasks.per_pixel import Aggregation, aggregated
from recon.tasks.task import Task

if TYPE_CHECKING:  # torchmetrics is slow to import, and a plain training loop does not need it
    from torchmetrics import Metric


def edges(name: str, aggregation: Aggregation = "dataset", positive_weight: float = 0.95) -> Task:
    """A task that says at which pixels there is an edge.

    Predictions are logits (B, 1, H, W), targets labels (B, H, W), int64: 1 on an edge, 0 off it, -1
    without truth. The loss is :func:`recon.tasks.mask_losses.weighted_mask_loss`. The metric
    ``max_f`` is the F-measure at the best of 99 thresholds for the whole set, pixel by pixel.
    Published values of "odsF" are higher: they thin the prediction and match edges some pixels
    apart, by the program SEISM. An estimate is the probability of an edge, (B, H, W), which such a
    program can read from the files of ``recon predict``.

    >>> import torch
    >>> task = edges("edges")
    >>> round(task.loss(torch.zeros(1, 1, 1, 3), torch.tensor([[[1, 0, -1]]])).item(), 4)
    0.3466
    >>> list(task.metrics()), task.outputs
    (['max_f'], 1)

    Args:
        name: The task's name.
        aggregation: Metrics over the whole ``"dataset"``, or ``"per_batch"`` and averaged.
        positive_weight: Weight of pixels on an edge; those off it have the rest of 1. The default
            is that of PASCAL-Context in the code of all three papers above. For NYUD, Maninis et
            al. take 0.8, MTI-Net and InvPT 0.95.

    Raises:
        ValueError: A weight that is not between 0 and 1, an unknown aggregation, or a name that
            cannot be used.
    """
    if not 0 < positive_weight < 1:
        raise ValueError(f"task {name!r} has positive_weight={positive_weight}; give a number between 0 and 1")
    loss = partial(weighted_mask_loss, positive_weight=positive_weight)
    return _mask(name, loss, aggregated(_edge_metrics, aggregation), ("no edge", "edge"))


def saliency(name: str, aggregation: Aggregation = "dataset") -> Task:
    """A task that says which pixels belong to what catches the eye.

    Predictions are logits (B, 1, H, W), targets labels (B, H, W), int64: 1 on the object, 0 off it,
    -1 without truth. The loss is :func:`recon.tasks.mask_losses.balanced_mask_loss`. The metrics
    are those of the protocol: ``miou``, the mean over images at the best of the thresholds 0.2,
    0.25, ..., 0.9, as MTI-Net reports it; and ``max_f``, the F-measure with beta^2 = 0.3 at the
    best of 0.05, 0.1, ..., 0.95 for the pixels of all images, as InvPT reports it. (InvPT's program
    puts probabilities through a sigmoid again, which leaves four of its thresholds apart.) An
    estimate is the probability, (B, H, W).

    >>> import torch
    >>> task = saliency("saliency")
    >>> round(task.loss(torch.zeros(1, 1, 2, 2), torch.tensor([[[1, 0], [0, 0]]])).item(), 4)
    0.2599
    >>> list(task.metrics()), task.outputs
    (['miou', 'max_f'], 1)

    Args:
        name: The task's name.
        aggregation: Metrics over the whole ``"dataset"``, or ``"per_batch"`` and averaged.

    Raises:
        ValueError: An unknown aggregation, or a name that cannot be used.
    """
    return _mask(name, balanced_mask_loss, aggregated(_saliency_metrics, aggregation), ("other", "salient"))


def _mask(
    name: str,
    loss: Callable[[Tensor, Tensor], Tensor],
    metrics: "Callable[[], dict[str, Metric]]",
    labels: tuple[str, str],
) -> Task:
    legend = partial(label_legend, names=labels)
    return Task(name, loss, metrics, 1, _probabilities, paint_probabilities, legend, valid_items)


def _probabilities(logits: Tensor) -> Tensor:
    return logits.squeeze(1).sigmoid()


def _edge_metrics() -> "dict[str, Metric]":
    from recon.tasks.mask_metrics import MaxF

    return {"max_f": MaxF([step / 100 for step in range(1, 100)])}


def _saliency_metrics() -> "dict[str, Metric]":
    from recon.tasks.mask_metrics import MaxF, MaxMeanIoU

    return {
        "miou": MaxMeanIoU([step / 20 for step in range(4, 19)]),
        "max_f": MaxF([step / 20 for step in range(1, 20)], beta_squared=0.3),
    }
