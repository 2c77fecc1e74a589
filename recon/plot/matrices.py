"""How far several conflict maps agree: rank correlations and common top layers as matrices."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from recon.errors import number_of
from recon.plot.axes import given_or_new, name_squares
from recon.plot.contracts import Agreement

_LARGEST_WITH_NUMBERS = 20
"""Maps beyond which the numbers in the squares could not be read."""


def rank_correlations(agreement: Agreement, ax: Axes | None = None) -> Axes:
    """Draw Spearman's correlation of the scores of each pair of maps.

    Args:
        agreement: What :func:`recon.conflict.agree` returns.
        ax: Axes to draw on; by default those of a new figure.

    Returns:
        The axes.

    Example:
        >>> from recon.conflict import ConflictMap, agree
        >>> published = ConflictMap.load("nyuv2-mtan")
        >>> agreement = agree({"a": published, "b": published}, severity=None, k=15)
        >>> rank_correlations(agreement).get_title()
        'Spearman of the scores, 72 layers'
    """
    values = agreement.spearman
    known = values[np.isfinite(values)]
    low = min(0.0, float(known.min())) if len(known) else 0.0
    axes = _matrix(values, agreement.names, "{:.2f}", (low, 1.0), ax)
    axes.set_title(f"Spearman of the scores, {number_of(len(agreement.layers), 'layer')}", fontsize=9)
    return axes


def common_layers(agreement: Agreement, ax: Axes | None = None) -> Axes:
    """Draw how many of the top layers each pair of maps has in common, beside chance.

    Args:
        agreement: What :func:`recon.conflict.agree` returns.
        ax: Axes to draw on; by default those of a new figure.

    Returns:
        The axes.

    Example:
        >>> from recon.conflict import ConflictMap, agree
        >>> published = ConflictMap.load("nyuv2-mtan")
        >>> agreement = agree({"a": published, "b": published}, severity=None, k=15)
        >>> common_layers(agreement).get_title()
        'common to the top 15 (3.1 by chance)'
    """
    reach = (agreement.chance, float(agreement.k))
    axes = _matrix(agreement.overlap.astype(float), agreement.names, "{:.0f}", reach, ax)
    axes.set_title(f"common to the top {agreement.k} ({agreement.chance:.1f} by chance)", fontsize=9)
    return axes


def _matrix(
    values: NDArray[np.float64], names: Sequence[str], form: str, reach: tuple[float, float], ax: Axes | None
) -> Axes:
    side = 1.8 + 0.42 * len(names)
    axes = given_or_new(ax, side + 0.4, side + 0.6)
    axes.imshow(values, cmap="Blues", vmin=reach[0], vmax=reach[1])
    name_squares(axes, names, names)
    if len(names) <= _LARGEST_WITH_NUMBERS:
        for row, column in np.argwhere(np.isfinite(values)):
            dark = values[row, column] > reach[0] + 0.6 * (reach[1] - reach[0])
            text, colour = form.format(values[row, column]), "white" if dark else "black"
            axes.text(column, row, text, ha="center", va="center", fontsize=6, color=colour)
    return axes
