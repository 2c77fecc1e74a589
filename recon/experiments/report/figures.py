"""The figures of a benchmark: conflict per layer, cosines with and without Recon, delta-m."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from recon.conflict import BIN_EDGES, MeasuredMap
from recon.experiments.report.table import VARIANT_NAMES, row_name
from recon.files.atomic import atomic_path
from recon.tasks.colours import OKABE_ITO

MERGED_BINS = 2
"""Histogram bins of 0.01 drawn as one bar."""
_VISIBLE = 0.005  # of the highest bar; the figure ends at lower bars

_GREY = "#7f7f7f"
# Told apart by form as well as by colour.
MARKERS = {
    "plain": ("o", _GREY),
    "recon": ("s", OKABE_ITO["blue"]),
    "random": ("D", OKABE_ITO["orange"]),
    "random_parameters": ("d", OKABE_ITO["orange"]),
    "random_flops": ("P", OKABE_ITO["orange"]),
    "first": ("^", OKABE_ITO["green"]),
    "last": ("v", OKABE_ITO["purple"]),
    "least": ("X", OKABE_ITO["vermillion"]),
    "norms": ("p", OKABE_ITO["sky"]),
    "norms_random": ("h", OKABE_ITO["orange"]),
    "wide_parameters": ("<", "black"),
    "wide_flops": (">", "black"),
}
"""Variant -> the marker and the colour of its rows."""


def conflict_by_layer(maps: Sequence[MeasuredMap], branched: Sequence[Sequence[str]], severity: float) -> Figure:
    """S-conflict rate of each layer in forward order: the mean over seeds, and their range.

    Args:
        maps: One map a seed, of the same layers.
        branched: The layers that Recon branches, one list for each seed of its runs.
        severity: Severity S.
    """
    layers = maps[0].layers
    rates = np.array([[one.rates(severity)[layer] for layer in layers] for one in maps])
    times = Counter(layer for seed in branched for layer in set(seed))
    figure = Figure(figsize=(7, 1.4 + 0.18 * len(layers)), layout="constrained")
    axes = figure.subplots()
    groups = {
        "shared": ("o", _GREY, [not times[layer] for layer in layers]),
        "branched with some seeds": ("D", OKABE_ITO["orange"], [0 < times[layer] < len(branched) for layer in layers]),
        "branched by Recon": ("s", OKABE_ITO["blue"], [0 < times[layer] == len(branched) for layer in layers]),
    }
    for label, (marker, colour, chosen) in groups.items():
        places = np.flatnonzero(chosen)
        if len(places):
            low, mean, high = rates[:, places].min(0), rates[:, places].mean(0), rates[:, places].max(0)
            reach = np.stack([mean - low, high - mean]).clip(min=0) if len(maps) > 1 else None
            _dots(axes, mean, places, reach, marker, colour, f"{label} ({len(places)})")
    _name_rows(axes, layers, fontsize=7)
    axes.set_xlim(left=0)
    axes.set_xlabel(f"fraction of observed (step, pair) with cosine < {severity}")
    seeds = f"mean and range of {len(maps)} seeds" if len(maps) > 1 else "one seed"
    axes.set_title(f"Conflict per layer, joint training ({seeds})", fontsize=10)
    axes.legend(fontsize=8)
    return figure


def cosine_histograms(before: Sequence[MeasuredMap], after: Sequence[MeasuredMap]) -> Figure:
    """Cosines of task gradients before and after Recon, over the layers that stay shared.

    Args:
        before: One map a seed, of plain training.
        after: For the same seeds, of training with Recon; each has the layers that stayed shared.
    """
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    edges = np.array(BIN_EDGES[::MERGED_BINS])
    reach = 0.0
    area: dict[str, Any] = {"fill": True, "color": OKABE_ITO["orange"], "alpha": 0.6}
    line: dict[str, Any] = {"color": OKABE_ITO["blue"], "linewidth": 1.8}
    for maps, label, look in ((before, "before Recon", area), (after, "after Recon", line)):
        counts = sum(_counts(one, kept.layers) for one, kept in zip(maps, after, strict=True))
        assert isinstance(counts, np.ndarray)
        density = counts.reshape(-1, MERGED_BINS).sum(1) / counts.sum() / (edges[1] - edges[0])
        below = counts[: len(counts) // 2].sum() / counts.sum()
        name = f"{label}: {below:.1%} conflicting"
        axes.stairs(density, edges, label=name, **look)
        seen = edges[:-1][density > _VISIBLE * density.max()]
        reach = max(reach, -seen[0], seen[-1] + edges[1] - edges[0])
    axes.set_xlim(-reach, reach)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_xlabel("cosine of two task gradients, layer by layer")
    axes.set_ylabel("density")
    axes.set_title(f"Joint training, the {len(after[0].layers)} layers that stay shared", fontsize=10)
    axes.legend()
    return figure


def delta_m_dots(summary: Sequence[Mapping[str, Any]]) -> Figure:
    """Delta-m of each method and variant, with the standard deviation over several seeds."""
    rows = [row for row in summary if row["delta_m"] is not None]
    figure = Figure(figsize=(7, 1.4 + 0.26 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for variant, (marker, colour) in MARKERS.items():
        places = np.flatnonzero([row["variant"] == variant for row in rows])
        if len(places):
            spreads = [rows[place]["delta_m"] for place in places]
            means = np.array([spread["mean"] for spread in spreads])
            reach = np.array([spread["std"] or np.nan for spread in spreads])
            _dots(axes, means, places, reach, marker, colour, VARIANT_NAMES[variant] or "plain")
    for place, row in enumerate(rows):
        mean = row["delta_m"]["mean"]
        axes.annotate(f"{mean:+.2f}", (mean, place), (0, 5), textcoords="offset points", ha="center", fontsize=6)
    _name_rows(axes, [row_name(row) for row in rows], fontsize=8)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.margins(x=0.08)
    if any(row["delta_m"]["std"] for row in rows):
        axes.set_title("Mean and standard deviation over seeds, where there are several", fontsize=10)
    axes.set_xlabel("delta-m over the single-task networks, % (higher is better)")
    axes.legend(fontsize=8)
    return figure


def save(figure: Figure, path: Path) -> list[Path]:
    """Write a figure as PNG and, for papers, as PDF; each whole or not at all.

    Args:
        figure: The figure.
        path: Where, with any suffix or none.

    Returns:
        The two files.
    """
    paths = [path.with_suffix(".png"), path.with_suffix(".pdf")]
    with matplotlib.rc_context({"pdf.fonttype": 42}):  # publishers ask for letters as letters
        for each in paths:
            with atomic_path(each) as temporary:
                figure.savefig(temporary, dpi=150, format=each.suffix[1:])
    return paths


def _dots(
    axes: Axes, values: np.ndarray, places: np.ndarray, reach: np.ndarray | None, marker: str, colour: str, label: str
) -> None:
    """One dot a row, with an interval where there is a reach."""
    axes.errorbar(
        values, places, xerr=reach, fmt=marker, color=colour, label=label, markersize=4.5, capsize=2.5, elinewidth=1.2
    )


def _name_rows(axes: Axes, names: Sequence[str], fontsize: int) -> None:
    axes.set_yticks(range(len(names)), names, fontsize=fontsize)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(axis="y", color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)


def _counts(conflict_map: MeasuredMap, layers: Sequence[str]) -> np.ndarray:
    rows = [conflict_map.layers.index(layer) for layer in layers]
    return conflict_map.histogram[rows].sum(dim=(0, 1)).numpy()
