"""Delta-m against what it costs: the FLOPs and the parameters of each row."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from recon import plot
from recon.plot.rows import CONFIDENCE

_FEWEST = 4
"""Rows from which the figure says more than the table."""


def priced(summary: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The rows of the network of the first plain row, if there are enough for a figure.

    Args:
        summary: The rows, see :func:`recon.experiments.report.summary.summarise`.
    """
    same = of_one_network(summary)
    return same if len({(row["parameters"], row["flops"]) for row in same}) >= _FEWEST else []


def of_one_network(summary: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The rows with delta-m and prices of the network of the first plain row."""
    rows = [row for row in summary if row["delta_m"] and None not in (row["parameters_growth"], row["flops_growth"])]
    bases = [_base(row) for row in rows if row["variant"] == "plain"]
    return [row for row in rows if bases and _base(row) == bases[0]]


def delta_m_against_prices(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Delta-m of rows over the growth of FLOPs and of parameters, with the interval of the mean.

    Args:
        rows: The rows of :func:`priced`.
    """
    figure = Figure(figsize=(9, 7), layout="constrained")
    flops, parameters = figure.subplots(2, 1, sharey=True)
    plot.delta_m_against(rows, "flops", ax=flops)
    plot.delta_m_against(rows, "parameters", ax=parameters)
    flops.set_title(f"Delta-m, with the {CONFIDENCE:.0%} interval of the mean over seeds", fontsize=10)
    figure.legend(*flops.get_legend_handles_labels(), loc="outside right center", fontsize=7)
    return figure


def _base(row: Mapping[str, Any]) -> int:
    """Parameters of the network without branches."""
    return round(row["parameters"] / (1 + row["parameters_growth"]))
