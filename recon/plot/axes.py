"""Axes to draw on, and the marks that pictures share."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

WIDTH = 7.0
"""Width of a picture in inches, a page's column."""

GREY = "#7f7f7f"


def given_or_new(ax: Axes | None, height: float, width: float = WIDTH) -> Axes:
    """Return the given axes, or those of a new figure of pyplot, which notebooks show.

    Args:
        ax: Axes to draw on.
        height: Height of a new figure in inches.
        width: Its width in inches.
    """
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    axes: Axes = plt.subplots(figsize=(width, height), layout="constrained")[1]
    return axes


def height_of_rows(rows: int, each: float = 0.18) -> float:
    """Height of a figure with this many named rows, in inches.

    >>> round(height_of_rows(10), 1)
    3.2
    """
    return 1.4 + each * rows


def as_it_is(name: str) -> str:
    r"""A name that matplotlib draws letter by letter, where ``$`` would start a formula.

    >>> as_it_is("loss $x$")
    'loss \\$x\\$'
    """
    return name.replace("$", r"\$")


def name_rows(axes: Axes, names: Sequence[str], fontsize: int) -> None:
    """Name the rows from top to bottom, with a line for each."""
    axes.set_yticks(range(len(names)), [as_it_is(name) for name in names], fontsize=fontsize)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(axis="y", color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)


def dots(
    axes: Axes,
    values: NDArray[np.float64],
    rows: NDArray[np.int64],
    reach: NDArray[np.float64] | None,
    marker: str,
    colour: str,
    label: str,
) -> None:
    """Draw one dot a row, with an interval where there is a reach."""
    axes.errorbar(
        values,
        rows,
        xerr=reach,
        fmt=marker,
        color=colour,
        label=as_it_is(label),
        markersize=4.5,
        capsize=2.5,
        elinewidth=1.2,
    )


def name_squares(axes: Axes, columns: Sequence[str], rows: Sequence[str]) -> None:
    """Name the columns and rows of a matrix."""
    axes.set_xticks(range(len(columns)), [as_it_is(name) for name in columns], rotation=90, fontsize=7)
    axes.set_yticks(range(len(rows)), [as_it_is(name) for name in rows], fontsize=7)
