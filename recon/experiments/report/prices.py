"""Delta-m against what it costs: the FLOPs and the parameters of each row."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from recon.experiments.report.differences import CONFIDENCE
from recon.experiments.report.figures import MARKERS
from recon.experiments.report.table import row_name

_FEWEST = 4
"""Rows from which the figure says more than the table."""


def priced(summary: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The rows of the network of the first plain row, if there are enough for a figure.

    Args:
        summary: The rows, see :func:`recon.experiments.report.summary.summarise`.
    """
    rows = [row for row in summary if row["delta_m"] and None not in (row["parameters_growth"], row["flops_growth"])]
    bases = [_base(row) for row in rows if row["variant"] == "plain"]
    same = [row for row in rows if bases and _base(row) == bases[0]]
    return same if len({(row["parameters"], row["flops"]) for row in same}) >= _FEWEST else []


def delta_m_against_prices(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Delta-m of rows over the growth of FLOPs and of parameters, with the interval of the mean.

    Args:
        rows: The rows of :func:`priced`.
    """
    figure = Figure(figsize=(9, 7), layout="constrained")
    panels = figure.subplots(2, 1, sharey=True)
    for axes, key, title in zip(panels, ("flops_growth", "parameters_growth"), ("FLOPs", "parameters"), strict=True):
        for number, row in enumerate(rows, 1):
            marker, colour = MARKERS[row["variant"]]
            mean, growth = row["delta_m"]["mean"], 100 * row[key]
            label = f"{number} {row_name(row)}"
            axes.errorbar(growth, mean, _reach(row), fmt=marker, color=colour, markersize=5, linewidth=0.8, label=label)
            place, side = ((5, 2), "left") if number % 2 else ((-5, 2), "right")  # rows of one price stand close
            axes.annotate(str(number), (growth, mean), place, textcoords="offset points", fontsize=7, ha=side)
        axes.axhline(0, color="black", linewidth=0.8)
        axes.set_xlabel(f"growth of {title}, %")
        axes.set_ylabel("delta-m, %")
    panels[1].set_xscale("symlog", linthresh=1)  # branched norms add less than 1 %, copies of all layers 100 %
    panels[1].set_xlim(left=-0.3)
    panels[0].set_title(f"Delta-m, with the {CONFIDENCE:.0%} interval of the mean over seeds", fontsize=10)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center", fontsize=7)
    return figure


def _reach(row: Mapping[str, Any]) -> float:
    """Half of the interval of the mean by the t-test; 0 for one seed."""
    from scipy.stats import t

    deviation, seeds = row["delta_m"]["std"], len(row["seeds"])
    if deviation is None:
        return 0.0
    return float(t.ppf((1 + CONFIDENCE) / 2, seeds - 1) * deviation / np.sqrt(seeds))


def _base(row: Mapping[str, Any]) -> int:
    """Parameters of the network without branches."""
    return round(row["parameters"] / (1 + row["parameters_growth"]))
