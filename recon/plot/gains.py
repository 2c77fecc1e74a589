"""Delta-m of the rows of a benchmark, alone and against what they cost."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes

from recon.plot.axes import as_it_is, dots, given_or_new, height_of_rows, name_rows
from recon.plot.numbers import number_marks
from recon.plot.rows import CONFIDENCE, MARKERS, VARIANT_NAMES, row_name

Price = Literal["parameters", "flops"]

Row = Mapping[str, Any]


def delta_m(summary: Sequence[Row], ax: Axes | None = None) -> Axes:
    """Draw delta-m of each method and variant, with the standard deviation over several seeds.

    Args:
        summary: Rows with ``method``, ``variant`` and ``delta_m``: ``{"mean", "std"}``, or None for
            rows that are left out. ``results.json`` has them as ``summary``.
        ax: Axes to draw on; by default those of a new figure.

    Returns:
        The axes.

    Example:
        >>> row = {"method": "joint", "variant": "recon", "delta_m": {"mean": 1.2, "std": 0.1}}
        >>> delta_m([row]).texts[0].get_text()
        '+1.20'
    """
    rows = [row for row in summary if row["delta_m"] is not None]
    axes = given_or_new(ax, height_of_rows(len(rows), 0.26))
    for variant, (marker, colour) in MARKERS.items():
        places = np.flatnonzero([row["variant"] == variant for row in rows])
        if len(places):
            spreads = [rows[place]["delta_m"] for place in places]
            means = np.array([spread["mean"] for spread in spreads])
            reach = np.array([spread["std"] or np.nan for spread in spreads])
            dots(axes, means, places, reach, marker, colour, VARIANT_NAMES[variant] or "plain")
    for place, row in enumerate(rows):
        mean = row["delta_m"]["mean"]
        axes.annotate(f"{mean:+.2f}", (mean, place), (0, 5), textcoords="offset points", ha="center", fontsize=6)
    name_rows(axes, [row_name(row) for row in rows], fontsize=8)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.margins(x=0.08)
    axes.set_xlabel("delta-m over the single-task networks, % (higher is better)")
    axes.legend(fontsize=8)
    return axes


def delta_m_against(rows: Sequence[Row], price: Price, ax: Axes | None = None) -> Axes:
    """Draw delta-m over the growth of FLOPs or of parameters, with the 95 % interval of the mean.

    Rows have numbers, which the labels of a legend explain; where marks stand close, thin lines
    lead to the numbers. The axis of parameters is logarithmic from 1 % on: branched norms add less
    than 1 %, copies of all layers 100 %.

    Args:
        rows: Rows with ``method``, ``variant``, ``seeds``, ``delta_m``, ``parameters_growth`` and
            ``flops_growth``, of one network. ``results.json`` has them as ``summary``. Rows without
            delta-m or without this price, such as single-task networks, are left out.
        price: The price.
        ax: Axes to draw on; by default those of a new figure, with a legend.

    Returns:
        The axes.

    Example:
        >>> spread = {"mean": 1.2, "std": None}
        >>> row = {"method": "joint", "variant": "recon", "seeds": [0], "delta_m": spread}
        >>> axes = delta_m_against([{**row, "flops_growth": 0.5}], "flops")
        >>> axes.get_xlabel()
        'growth of FLOPs, %'
    """
    axes = given_or_new(ax, 4)
    growth_of = f"{price}_growth"
    drawn = [row for row in rows if row["delta_m"] is not None and row[growth_of] is not None]
    marks = []
    for number, row in enumerate(drawn, 1):
        marker, colour = MARKERS[row["variant"]]
        mean, growth = row["delta_m"]["mean"], 100 * row[growth_of]
        label = as_it_is(f"{number} {row_name(row)}")
        reach = _reach(row)
        axes.errorbar(growth, mean, reach, fmt=marker, color=colour, markersize=5, linewidth=0.8, label=label)
        marks.append((growth, mean, reach))
    number_marks(axes, marks)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_xlabel("growth of FLOPs, %" if price == "flops" else "growth of parameters, %")
    axes.set_ylabel("delta-m, %")
    axes.margins(x=0.1)  # room for the numbers
    if price == "parameters":
        axes.set_xscale("symlog", linthresh=1)
        axes.set_xlim(-0.3, 1.4 * axes.get_xlim()[1])
    if ax is None:
        axes.legend(fontsize=7)
    return axes


def _reach(row: Row) -> float:
    """Half of the interval of the mean by the t-test; 0 for one seed."""
    from scipy.stats import t

    deviation, seeds = row["delta_m"]["std"], len(row["seeds"])
    if deviation is None:
        return 0.0
    return float(t.ppf((1 + CONFIDENCE) / 2, seeds - 1) * deviation / np.sqrt(seeds))
