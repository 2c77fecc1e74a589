"""A picture of which tasks are friends and which are foes: mean cosines of task pairs."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import NDArray

from recon.conflict import MeasuredMap
from recon.errors import unknown_name

_LARGEST_WITH_NUMBERS = 16
"""Tasks beyond which the numbers in the squares could not be read."""

_COLUMNS = 3
"""Panels beside each other."""


def task_pairs(maps: Sequence[MeasuredMap], layers: Sequence[str] = ()) -> Figure:
    """Draw the mean cosine of each pair of tasks as a matrix, friends beside each other.

    Cosines are means over the maps. All panels have the tasks in one order, that of the leaves of
    the average linkage which also makes groups of tasks (``ConflictMap.groups``).

    Args:
        maps: One map a seed, of the same layers and tasks.
        layers: A panel for each of these layers; by default one panel, the mean over all layers.

    Raises:
        ValueError: A map has no such layer.
    """
    for layer in layers:
        if layer not in maps[0].layers:
            raise unknown_name("layer", layer, maps[0].layers, where="the conflict map")
    panels = {layer: _cosines(maps, [layer]) for layer in layers}
    if not panels:
        panels[f"mean over {len(maps[0].layers)} layers"] = _cosines(maps, maps[0].layers)
    order = _friends_first(_cosines(maps, layers or maps[0].layers))
    reach = max(0.05, *(float(np.abs(np.nan_to_num(cosines)).max()) for cosines in panels.values()))
    rows, columns = -(-len(panels) // _COLUMNS), min(len(panels), _COLUMNS)
    side = 1.8 + 0.32 * len(order)
    figure = Figure(figsize=(side * columns + 0.8, side * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    names = [maps[0].tasks[task] for task in order]
    for axes, (title, cosines) in zip(grid, panels.items(), strict=False):
        picture = _matrix(axes, cosines[np.ix_(order, order)], names, reach)
        axes.set_title(title, fontsize=10)
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    figure.colorbar(picture, ax=grid, label="mean cosine of two task gradients (numbers: hundredths)", shrink=0.8)
    return figure


def _cosines(maps: Sequence[MeasuredMap], layers: Sequence[str]) -> NDArray[np.float64]:
    """(K, K): means over the observations of all maps in these layers; NaN on the diagonal."""
    counts, sums = np.zeros(len(maps[0].pairs)), np.zeros(len(maps[0].pairs))
    for one in maps:
        places = [one.layers.index(layer) for layer in layers]
        observed = one.histogram[places].sum(dim=2).numpy()
        counts += observed.sum(axis=0)
        sums += (np.nan_to_num(one.mean_cosine[places].numpy()) * observed).sum(axis=0)
    matrix = np.full((len(maps[0].tasks),) * 2, np.nan)
    upper = np.triu_indices(len(maps[0].tasks), 1)  # the order of the pairs
    matrix[upper] = np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)
    matrix.T[upper] = matrix[upper]
    return matrix


def _friends_first(cosines: NDArray[np.float64]) -> list[int]:
    """The tasks in the order of the leaves of their average linkage."""
    from scipy.cluster.hierarchy import leaves_list, linkage

    pairs = np.nan_to_num(cosines[np.triu_indices(len(cosines), 1)])
    order: list[int] = leaves_list(linkage(1 - pairs, method="average", optimal_ordering=True)).tolist()
    return order


def _matrix(axes: Axes, cosines: NDArray[np.float64], names: Sequence[str], reach: float) -> AxesImage:
    """Draw one matrix, with the numbers as hundredths where they can be read."""
    picture = axes.imshow(cosines, cmap="PuOr", vmin=-reach, vmax=reach)  # safe for the colour-blind
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
    axes.set_yticks(range(len(names)), names, fontsize=7)
    if len(names) <= _LARGEST_WITH_NUMBERS:
        for row, column in np.argwhere(np.isfinite(cosines)):
            value = cosines[row, column]
            colour = "white" if abs(value) > 0.7 * reach else "black"
            axes.text(column, row, f"{round(100 * value)}", ha="center", va="center", fontsize=6, color=colour)
    return picture
