"""A picture of the agreement of several conflict maps: rank correlations and common top layers."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from recon.conflict import MapAgreement

_LARGEST_WITH_NUMBERS = 20
"""Maps beyond which the numbers in the squares could not be read."""


def map_agreement(agreement: MapAgreement) -> Figure:
    """Draw rank correlations and common top layers of each pair of maps as two matrices.

    Args:
        agreement: The agreement of two or more maps.
    """
    number = len(agreement.names)
    side = 1.8 + 0.42 * number
    figure = Figure(figsize=(2 * side + 1.2, side + 0.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    _matrix(left, agreement.spearman, agreement.names, "{:.2f}", (min(0.0, np.nanmin(agreement.spearman)), 1.0))
    left.set_title(f"Spearman of the scores, {len(agreement.layers)} layers", fontsize=9)
    _matrix(right, agreement.overlap.astype(float), agreement.names, "{:.0f}", (agreement.chance, agreement.k))
    right.set_title(f"common to the top {agreement.k} ({agreement.chance:.1f} by chance)", fontsize=9)
    return figure


def _matrix(
    axes: Axes, values: NDArray[np.float64], names: tuple[str, ...], form: str, reach: tuple[float, float]
) -> None:
    axes.imshow(values, cmap="Blues", vmin=reach[0], vmax=reach[1])
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
    axes.set_yticks(range(len(names)), names, fontsize=7)
    if len(names) <= _LARGEST_WITH_NUMBERS:
        for row, column in np.argwhere(np.isfinite(values)):
            dark = values[row, column] > reach[0] + 0.6 * (reach[1] - reach[0])
            text = form.format(values[row, column])
            colour = "white" if dark else "black"
            axes.text(column, row, text, ha="center", va="center", fontsize=6, color=colour)
