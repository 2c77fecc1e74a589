"""A picture of which tasks are friends and which are foes: mean cosines of task pairs."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from recon import plot
from recon.conflict import MeasuredMap
from recon.errors import unknown_name
from recon.gradients.layers import number_of_layers
from recon.plot.axes import as_it_is
from recon.plot.pairs import LEGEND, friends_first, mean_cosines, strongest

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
    panels = {layer: [layer] for layer in layers}
    if not panels:
        panels[f"mean over {number_of_layers(maps[0].layers)}"] = list(maps[0].layers)
    order = friends_first(maps, layers)
    reach = max(strongest(mean_cosines(maps, own)) for own in panels.values())
    rows, columns = -(-len(panels) // _COLUMNS), min(len(panels), _COLUMNS)
    side = 1.8 + 0.32 * len(order)
    figure = Figure(figsize=(side * columns + 0.8, side * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, (title, own) in zip(grid, panels.items(), strict=False):
        plot.task_pairs(maps, own, order, reach, ax=axes).set_title(as_it_is(title), fontsize=10)
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    figure.colorbar(grid[0].images[0], ax=grid, label=LEGEND, shrink=0.8)
    return figure
