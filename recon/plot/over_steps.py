"""Conflict by layer while training goes on, as a heat map."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from recon.plot.axes import as_it_is, given_or_new, height_of_rows

_MOST_NAMES = 80
"""Layers beyond which names could not be read; of more every second one is named, or fewer."""


def conflict_over_steps(rates: ArrayLike, steps: Sequence[int], layers: Sequence[str], ax: Axes | None = None) -> Axes:
    """Draw the conflict of each layer in stretches of steps: dark squares conflict often.

    Args:
        rates: (T, L), the fraction of observed (step, pair) with conflict in each of T stretches
            and L layers; NaN, where nothing was observed, stays white.
        steps: The last step of each stretch; the first stretch begins at step 0.
        layers: The L layers.
        ax: Axes to draw on; by default those of a new figure, with a bar of the colours.

    Returns:
        The axes.

    Raises:
        ValueError: The rates are of another number of stretches or layers, or the steps do not
            grow.

    Example:
        >>> axes = conflict_over_steps([[0.1, 0.5], [0.2, 0.4]], [100, 200], ["a", "b"])
        >>> [label.get_text() for label in axes.get_yticklabels()]
        ['a', 'b']
    """
    values, edges = np.asarray(rates, dtype=np.float64), np.array([0, *steps])
    if values.shape != (len(steps), len(layers)):
        raise ValueError(f"rates have the shape {values.shape}, not {(len(steps), len(layers))}: stretches by layers")
    if (np.diff(edges) <= 0).any():
        raise ValueError(f"the steps {list(steps)} do not grow from stretch to stretch; sort them")
    axes = given_or_new(ax, height_of_rows(len(layers), 0.14))
    rows = np.arange(len(layers) + 1) - 0.5
    picture = axes.pcolormesh(edges, rows, values.T, cmap="Blues", vmin=0)
    every = -(-len(layers) // _MOST_NAMES)
    axes.set_yticks(range(0, len(layers), every), [as_it_is(name) for name in layers[::every]], fontsize=6)
    axes.set_ylim(len(layers) - 0.5, -0.5)
    axes.set_xlabel("step")
    if ax is None:
        axes.figure.colorbar(picture, ax=axes, shrink=0.9).set_label("S-conflict rate", fontsize=8)
    return axes
