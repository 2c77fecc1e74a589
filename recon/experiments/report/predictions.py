"""Predictions beside the truth, as one sheet of pictures."""

from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from torch import Tensor

from recon.tasks.colours import Legend, Scale, depth_colours
from recon.tasks.task import Task
from recon.training import MultiTaskModule
from recon.training.batch import inputs_and_targets, per_task

SAMPLES = 4
"""Rows of a sheet."""
_LEGEND_COLUMNS = 7


def prediction_sheet(module: MultiTaskModule, batch: Any) -> Figure | None:
    """Draw image, truth and prediction of the first samples of a batch.

    Args:
        module: A trained network.
        batch: ``(images, {task: target})``; images ``(B, 3, H, W)`` in [0, 1]. Of tasks with images
            of their own, ``{task: (images, target)}``, the first that can be drawn is.

    Returns:
        One row per sample: the image, and for each task the truth and the prediction, with a legend
        of their colours. ``None`` if no task can be drawn.
    """
    images, targets = _drawable(module, batch)
    tasks = [task for task in module.tasks if task.name in targets]
    if not tasks:
        return None
    images = images[:SAMPLES]
    with torch.no_grad():
        predictions = {task.name: module.eval().run(task.name, images.to(module.device)) for task in tasks}
    columns = {"image": list(images.cpu())}
    for task in tasks:
        estimates = predictions[task.name].float().cpu()
        columns[f"{task.name}: truth"], columns[task.name] = _painted(task, estimates, targets[task.name])
    figure, grid = _sheet(columns)
    _explain(figure, grid, tasks, targets)
    return figure


def _drawable(module: MultiTaskModule, batch: Any) -> tuple[Any, dict[str, Tensor]]:
    """Images, and the first targets of the tasks that can be drawn beside them."""
    own = per_task(batch, module.known_tasks)
    tasks = [task for task in module.tasks if task.paint is not None]
    if own is None:
        images, targets = inputs_and_targets(batch)
    else:
        tasks = [task for task in tasks if task.name in own][:1]
        images, targets = None, {}
        for task in tasks:
            images, targets = own[task.name][0], {task.name: own[task.name][1]}
    tasks = [task for task in tasks if targets.get(task.name) is not None]
    return images, {task.name: task.labelled(targets[task.name]).target[:SAMPLES].cpu() for task in tasks}


def _painted(task: Task, predictions: Tensor, truths: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Pictures of the truths, and of the predictions in the truths' colours."""
    assert task.paint is not None
    values = task.estimated(predictions)
    return (
        [task.paint(truth, truth) for truth in truths],
        [task.paint(value, truth) for value, truth in zip(values, truths, strict=True)],
    )


def _sheet(columns: dict[str, list[Tensor]]) -> tuple[Figure, np.ndarray]:
    rows = len(next(iter(columns.values())))
    height, width = columns["image"][0].shape[-2:]
    figure = Figure(figsize=(1.6 * len(columns), 1.6 * rows * height / width + 0.5), layout="constrained")
    grid = figure.subplots(rows, len(columns), squeeze=False)
    for column, (title, pictures) in enumerate(columns.items()):
        grid[0, column].set_title(title, fontsize=8)
        for row, picture in enumerate(pictures):
            grid[row, column].imshow(picture.permute(1, 2, 0).clamp(0, 1).numpy())
            grid[row, column].set_axis_off()
    return figure, grid


def _explain(figure: Figure, grid: np.ndarray, tasks: list[Task], targets: dict[str, Tensor]) -> None:
    """Add a scale beside each row, whose range is its own, and one legend below all."""
    lines = []
    for number, task in enumerate(tasks):
        for row, truth in enumerate(targets[task.name]):
            key = None if task.key is None else task.key(truth)
            if isinstance(key, Scale):
                _draw_scale(figure, list(grid[row, 1 + 2 * number : 3 + 2 * number]), key)
            elif isinstance(key, Legend) and row == 0:
                lines += _legend_lines(task.name, key)
    if lines:
        width = max(map(len, lines))
        blank = Patch(alpha=0, label=" ")
        entries = [line[column] if column < len(line) else blank for column in range(width) for line in lines]
        figure.legend(handles=entries, loc="outside lower center", ncols=width, fontsize=6)


def _legend_lines(task: str, legend: Legend) -> list[list[Patch]]:
    """The entries of a task's legend, line by line; the first line begins with the task's name."""
    patches = [
        Patch(facecolor=colour.tolist(), edgecolor="black", linewidth=0.3, label=name)
        for name, colour in zip(legend.names, legend.colours, strict=True)
    ]
    parts = [patches[first : first + _LEGEND_COLUMNS] for first in range(0, len(patches), _LEGEND_COLUMNS)]
    return [[Patch(alpha=0, label=" " if number else f"{task}:"), *part] for number, part in enumerate(parts)]


def _draw_scale(figure: Figure, axes: list[Axes], scale: Scale) -> None:
    colours = ScalarMappable(Normalize(scale.low, scale.high), ListedColormap(depth_colours(256).numpy()))
    bar = figure.colorbar(colours, ax=axes, fraction=0.05, pad=0.02, aspect=12)
    bar.ax.tick_params(labelsize=5, length=2, pad=1)
    bar.outline.set_linewidth(0.3)
