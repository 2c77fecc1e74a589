"""The figures of a benchmark: conflict per layer, cosines with and without Recon, delta-m."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from recon import plot
from recon.conflict import MeasuredMap
from recon.files.atomic import atomic_path
from recon.plot.axes import WIDTH, height_of_rows


def conflict_by_layer(maps: Sequence[MeasuredMap], branched: Sequence[Sequence[str]], severity: float) -> Figure:
    """S-conflict rate of each layer in forward order: the mean over seeds, and their range.

    Args:
        maps: One map a seed, of the same layers.
        branched: The layers that Recon branches, one list for each seed of its runs.
        severity: Severity S.
    """
    figure = Figure(figsize=(WIDTH, height_of_rows(len(maps[0].layers))), layout="constrained")
    axes = plot.conflict_by_layer(maps, severity, branched, ax=figure.subplots())
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
    figure = Figure(figsize=(WIDTH, 4), layout="constrained")
    axes = plot.cosine_histograms(before, after, ax=figure.subplots())
    axes.set_title(f"Joint training, {kept_layers(after)}", fontsize=10)
    return figure


def kept_layers(after: Sequence[MeasuredMap]) -> str:
    """The layers that stay shared, in words; seeds may branch different ones.

    Args:
        after: The maps of training with Recon, one a seed.
    """
    first, *others = [set(one.layers) for one in after]
    numbers = sorted({len(first), *map(len, others)})
    if all(first == other for other in others):
        return f"the {len(first)} layers that stay shared" if len(first) != 1 else "the layer that stays shared"
    in_each = str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"
    return f"the layers that stay shared, {in_each} in each seed, not the same in all"


def delta_m_dots(summary: Sequence[Mapping[str, Any]]) -> Figure:
    """Delta-m of each method and variant, with the standard deviation over several seeds."""
    rows = [row for row in summary if row["delta_m"] is not None]
    figure = Figure(figsize=(WIDTH, height_of_rows(len(rows), 0.26)), layout="constrained")
    axes = plot.delta_m(rows, ax=figure.subplots())
    if any(row["delta_m"]["std"] for row in rows):
        axes.set_title("Mean and standard deviation over seeds, where there are several", fontsize=10)
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
