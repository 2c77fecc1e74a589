"""Predictions beside the truth, as one sheet of pictures."""

from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from recon.tasks import Task
from recon.training import MultiTaskModule

SAMPLES = 4
"""Rows of a sheet."""


def prediction_sheet(module: MultiTaskModule, batch: Any) -> Figure | None:
    """Draw image, truth and prediction of the first samples of a batch.

    Args:
        module: A trained network.
        batch: ``(images, {task: target})``; images ``(B, 3, H, W)`` in [0, 1].

    Returns:
        One row a sample: the image, and for each task the truth and the prediction. ``None`` if no task can be drawn.
    """
    tasks = [task for task in module.tasks if task.paint is not None]
    if not tasks:
        return None
    images = batch[0][:SAMPLES]
    targets = {task.name: batch[1][task.name][:SAMPLES].cpu() for task in tasks}
    with torch.no_grad():
        predictions = module.eval()(images.to(module.device))
    columns = {"image": list(images.cpu())}
    for task in tasks:
        estimates = predictions[task.name].float().cpu()
        columns[f"{task.name}: truth"], columns[task.name] = _painted(task, estimates, targets[task.name])
    return _sheet(columns)


def _painted(task: Task, predictions: Tensor, truths: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Pictures of the truths, and of the predictions in the truths' colours."""
    assert task.paint is not None
    values = task.estimated(predictions)
    return (
        [task.paint(truth, truth) for truth in truths],
        [task.paint(value, truth) for value, truth in zip(values, truths, strict=True)],
    )


def _sheet(columns: dict[str, list[Tensor]]) -> Figure:
    rows = len(next(iter(columns.values())))
    height, width = columns["image"][0].shape[-2:]
    figure = Figure(figsize=(1.6 * len(columns), 1.6 * rows * height / width + 0.3), layout="constrained")
    grid = figure.subplots(rows, len(columns), squeeze=False)
    for column, (title, pictures) in enumerate(columns.items()):
        grid[0, column].set_title(title, fontsize=8)
        for row, picture in enumerate(pictures):
            grid[row, column].imshow(picture.permute(1, 2, 0).clamp(0, 1).numpy())
            grid[row, column].set_axis_off()
    return figure
