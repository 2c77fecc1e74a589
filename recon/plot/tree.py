"""A branched network as a tree: one shared trunk, and a lane for each task behind it."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes

from recon.errors import number_of
from recon.plot.axes import GREY, as_it_is, given_or_new, height_of_rows, name_rows
from recon.tasks.colours import OKABE_ITO

Groups = Sequence[Sequence[str]]

_COLOURS = list(OKABE_ITO.values())
_PALE = "#c8c8c8"


def branches(
    layers: Sequence[str], branched: Mapping[str, Groups] | Sequence[str], tasks: Sequence[str], ax: Axes | None = None
) -> Axes:
    """Draw a branched network from its input at the top to its tasks at the bottom.

    A line is what runs: one before the first branched layer, the trunk, and one for each task
    behind it, or for each group of tasks that has shared all copies so far. A grey mark is a layer
    that all tasks share, across all lines where these run through it; a coloured square is a copy
    of a branched layer.

    Args:
        layers: All layers that could be branched, in forward order: those of a conflict map, or of
            ``recon.ConflictAnalyzer``.
        branched: The branched layers, or branched layer -> the groups of tasks that share a copy,
            such as the attribute ``groups`` of a branched network.
        tasks: The tasks.
        ax: Axes to draw on; by default those of a new figure.

    Returns:
        The axes.

    Raises:
        ValueError: A branched layer is not among the layers.

    Example:
        >>> axes = branches(["conv1", "conv2", "fc"], ["fc"], ["seg", "depth"])
        >>> axes.get_title()
        '1 of 3 layers branched; the trunk is 2 layers'
    """
    groups = dict(branched) if isinstance(branched, Mapping) else {one: [[task] for task in tasks] for one in branched}
    if absent := [layer for layer in groups if layer not in set(layers)]:
        raise ValueError(
            f"the branched layer {absent[0]!r} is none of the {number_of(len(layers), 'layer')}; give all layers"
        )
    lanes = {task: place for place, task in enumerate(_friends_together(layers, groups, tasks))}
    axes = given_or_new(ax, height_of_rows(len(layers)))
    clusters: list[list[str]] = [list(tasks)]
    trunk = len(layers)
    for row, layer in enumerate(layers):
        finer = _parted(clusters, groups.get(layer, [list(tasks)]))
        if len(clusters) == 1 < len(finer):
            trunk = row
        _draw_lines(axes, clusters, finer, lanes, row)
        clusters = finer
        _draw_layer(axes, groups.get(layer), clusters, lanes, row)
    _draw_ends(axes, clusters, lanes, len(layers))
    _label(axes, layers, lanes)
    trunk_in_words = number_of(trunk, "layer")
    axes.set_title(
        f"{len(groups)} of {number_of(len(layers), 'layer')} branched; the trunk is {trunk_in_words}", fontsize=10
    )
    return axes


def _friends_together(layers: Sequence[str], groups: Mapping[str, Groups], tasks: Sequence[str]) -> list[str]:
    """The tasks in an order in which those that share copies stand beside each other."""

    def numbers(task: str) -> list[int]:
        return [
            next(number for number, group in enumerate(groups[layer]) if task in group)
            for layer in layers
            if layer in groups
        ]

    return sorted(tasks, key=numbers)


def _parted(clusters: list[list[str]], groups: Groups) -> list[list[str]]:
    """The clusters of tasks that still share everything behind a layer with these groups."""
    parts = ([task for task in cluster if task in group] for cluster in clusters for group in groups)
    return [part for part in parts if part]


def _place(tasks: Sequence[str], lanes: Mapping[str, int]) -> float:
    return sum(lanes[task] for task in tasks) / len(tasks)


def _draw_lines(
    axes: Axes, before: list[list[str]], after: list[list[str]], lanes: Mapping[str, int], row: int
) -> None:
    for cluster in after:
        parent = next(one for one in before if cluster[0] in one)
        places = [_place(parent, lanes), _place(cluster, lanes)]
        width = 3.0 if len(after) == 1 else 1.4
        axes.plot(places, [row - 1, row], color=_PALE, linewidth=width, solid_capstyle="round", zorder=1)


def _draw_layer(
    axes: Axes, groups: Groups | None, clusters: list[list[str]], lanes: Mapping[str, int], row: int
) -> None:
    """Mark the copies of a branched layer, or the one layer that all share."""
    for group in groups or [[task for cluster in clusters for task in cluster]]:
        places = [_place(cluster, lanes) for cluster in clusters if cluster[0] in group]
        colour = GREY if groups is None else _COLOURS[min(lanes[task] for task in group) % len(_COLOURS)]
        if len(places) > 1:
            axes.plot([min(places), max(places)], [row, row], color=colour, linewidth=2.5, zorder=2)
        if len(places) == 1 or groups is not None:
            axes.plot(places, [row] * len(places), "o" if groups is None else "s", color=colour, markersize=5, zorder=3)


def _draw_ends(axes: Axes, clusters: list[list[str]], lanes: Mapping[str, int], row: int) -> None:
    """Lead the lines to the heads of the tasks."""
    for cluster in clusters:
        for task in cluster:
            axes.plot([_place(cluster, lanes), lanes[task]], [row - 1, row], color=_PALE, linewidth=1.4, zorder=1)
            axes.plot([lanes[task]], [row], "v", color="black", markersize=5, zorder=3)


def _label(axes: Axes, layers: Sequence[str], lanes: Mapping[str, int]) -> None:
    name_rows(axes, [*layers, "heads"], fontsize=7)
    axes.set_ylim(len(layers) + 0.6, -1.2)
    axes.set_xlim(-0.7, len(lanes) - 0.3)
    rotation = 90 if len(lanes) > 6 else 0
    axes.set_xticks(range(len(lanes)), [as_it_is(task) for task in lanes], fontsize=8, rotation=rotation)
    axes.tick_params(bottom=False)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.set_xlabel("grey: shared by all tasks; coloured squares: copies of their own", fontsize=8)
