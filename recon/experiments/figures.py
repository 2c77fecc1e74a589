"""The figures of a benchmark: where the conflict is, what Recon does to it, and what is gained."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from recon.conflict import BIN_EDGES, MeasuredMap
from recon.experiments.tables import row_name
from recon.files import replaced

BRANCHED, SHARED = "#c44e52", "#8c8c8c"
MERGED_BINS = 2
"""Histogram bins of 0.01 drawn as one bar."""
_VISIBLE = 0.005  # of the highest bar; what is lower is outside the figure


def conflict_by_layer(maps: Sequence[MeasuredMap], branched: Sequence[str], severity: float) -> Figure:
    """S-conflict rate of each layer in forward order, the mean over seeds; the layers that Recon branches stand out.

    Args:
        maps: One map a seed, of the same layers.
        branched: The layers that are branched (of the first seed).
        severity: Severity S.
    """
    layers = maps[0].layers
    rates = np.mean([[conflict_map.rates(severity)[layer] for layer in layers] for conflict_map in maps], axis=0)
    figure = Figure(figsize=(7, 1.2 + 0.18 * len(layers)), layout="constrained")
    axes = figure.subplots()
    colours = [BRANCHED if layer in set(branched) else SHARED for layer in layers]
    axes.barh(range(len(layers)), rates, color=colours)
    axes.set_yticks(range(len(layers)), layers, fontsize=7)
    axes.invert_yaxis()
    axes.margins(y=0.01)
    axes.set_xlabel(f"fraction of observed (step, pair) with cosine < {severity}")
    axes.set_title(f"Conflict per layer, joint training ({len(branched)} branched by Recon in red)", fontsize=10)
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
    for maps, label, colour in ((before, "before Recon", BRANCHED), (after, "after Recon", "#4c72b0")):
        counts = sum(_counts(one, kept.layers) for one, kept in zip(maps, after, strict=True))
        assert isinstance(counts, np.ndarray)
        density = counts.reshape(-1, MERGED_BINS).sum(1) / counts.sum() / (edges[1] - edges[0])
        below = counts[: len(counts) // 2].sum() / counts.sum()
        axes.stairs(density, edges, label=f"{label}: {below:.1%} conflicting", color=colour, fill=True, alpha=0.45)
        seen = edges[:-1][density > _VISIBLE * density.max()]
        reach = max(reach, -seen[0], seen[-1] + edges[1] - edges[0])
    axes.set_xlim(-reach, reach)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_xlabel("cosine of two task gradients, layer by layer")
    axes.set_ylabel("density")
    axes.set_title(f"Joint training, the {len(after[0].layers)} layers that stay shared", fontsize=10)
    axes.legend()
    return figure


def delta_m_bars(summary: Sequence[Mapping[str, Any]]) -> Figure:
    """Delta-m of each method and variant, with the standard deviation over seeds where there are several."""
    rows = [row for row in summary if row["delta_m"] is not None]
    figure = Figure(figsize=(7, 1.2 + 0.32 * len(rows)), layout="constrained")
    axes = figure.subplots()
    colours = [BRANCHED if row["variant"] == "recon" else SHARED for row in rows]
    means = [row["delta_m"]["mean"] for row in rows]
    bars = axes.barh(
        range(len(rows)), means, xerr=[row["delta_m"]["std"] or np.nan for row in rows], color=colours, capsize=3
    )
    axes.set_yticks(range(len(rows)), [row_name(row) for row in rows])
    axes.invert_yaxis()
    axes.axvline(0, color="black", linewidth=0.8)
    axes.bar_label(bars, [f"{mean:+.2f}" for mean in means], padding=3, fontsize=8)
    axes.margins(x=0.15)
    axes.set_xlabel("delta-m over the single-task networks, % (higher is better)")
    return figure


def save(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG, whole or not at all."""
    with replaced(path) as temporary:
        figure.savefig(temporary, dpi=150, format="png")
    return path


def _counts(conflict_map: MeasuredMap, layers: Sequence[str]) -> np.ndarray:
    rows = [conflict_map.layers.index(layer) for layer in layers]
    return conflict_map.histogram[rows].sum(dim=(0, 1)).numpy()
