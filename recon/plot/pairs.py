"""Which tasks are friends and which are foes: mean cosines of task pairs as a matrix."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from recon.errors import unknown_name
from recon.plot.axes import given_or_new, name_squares
from recon.plot.contracts import Measured

_LARGEST_WITH_NUMBERS = 16
"""Tasks beyond which the numbers in the squares could not be read."""

LEGEND = "mean cosine of two task gradients (numbers: hundredths)"
"""The meaning of the colours and numbers."""


def task_pairs(
    maps: Measured | Sequence[Measured],
    layers: Sequence[str] = (),
    order: Sequence[str] = (),
    reach: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the mean cosine of each pair of tasks as a matrix, friends beside each other.

    Cosines are means over maps and layers. The tasks stand in the order of the leaves of the
    average linkage which also makes groups of tasks (``ConflictMap.groups``).

    Args:
        maps: A map, or one a seed, of the same layers and tasks.
        layers: The layers; by default all.
        order: The tasks in another order.
        reach: The cosine of the strongest colours; by default the largest of the matrix.
        ax: Axes to draw on; by default those of a new figure, with a bar of the colours.

    Returns:
        The axes; their only image has the cosines, (K, K), NaN where a pair was never observed.

    Raises:
        ValueError: A map has no such layer.

    Example:
        >>> import torch, recon
        >>> analyzer = recon.ConflictAnalyzer(torch.nn.Linear(2, 2), tasks=["a", "b", "c"])
        >>> gramian = torch.tensor([[1.0, -0.5, 0.25], [-0.5, 1.0, -0.25], [0.25, -0.25, 1.0]])
        >>> analyzer.observe(gramian.unsqueeze(0))
        >>> axes = task_pairs(analyzer.conflict_map())
        >>> sorted({text.get_text() for text in axes.texts})
        ['-25', '-50', '25']
    """
    maps = list(maps) if isinstance(maps, Sequence) else [maps]
    for layer in layers:
        if layer not in maps[0].layers:
            raise unknown_name("layer", layer, maps[0].layers, where="the conflict map")
    found = mean_cosines(maps, layers or maps[0].layers)
    names = list(order or friends_first(maps, layers))
    places = [maps[0].tasks.index(name) for name in names]
    cosines = found[np.ix_(places, places)]
    reach = strongest(cosines) if reach is None else reach
    side = 1.8 + 0.32 * len(names)
    axes = given_or_new(ax, side, side + 0.8)
    picture = axes.imshow(cosines, cmap="PuOr", vmin=-reach, vmax=reach)  # safe for the colour-blind
    name_squares(axes, names, names)
    if len(names) <= _LARGEST_WITH_NUMBERS:
        for row, column in np.argwhere(np.isfinite(cosines)):
            value = cosines[row, column]
            colour = "white" if abs(value) > 0.7 * reach else "black"
            axes.text(column, row, f"{round(100 * value)}", ha="center", va="center", fontsize=6, color=colour)
    if ax is None:
        axes.figure.colorbar(picture, ax=axes, label=LEGEND, shrink=0.8)
    return axes


def mean_cosines(maps: Sequence[Measured], layers: Sequence[str]) -> NDArray[np.float64]:
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


def strongest(cosines: NDArray[np.float64]) -> float:
    """The largest size of a cosine, 0.05 or more.

    >>> strongest(np.array([-0.5, 0.25, np.nan]))
    0.5
    """
    return max(0.05, float(np.abs(np.nan_to_num(cosines)).max()))


def friends_first(maps: Sequence[Measured], layers: Sequence[str] = ()) -> list[str]:
    """The tasks in the order of the leaves of their average linkage over some layers, or all."""
    from scipy.cluster.hierarchy import leaves_list, linkage

    cosines = mean_cosines(maps, layers or maps[0].layers)
    pairs = np.nan_to_num(cosines[np.triu_indices(len(cosines), 1)])
    order = leaves_list(linkage(1 - pairs, method="average", optimal_ordering=True))
    return [maps[0].tasks[task] for task in order]
