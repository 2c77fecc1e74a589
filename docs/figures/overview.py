"""The README's figure: conflict in every layer of a network, before and after Recon.

    python docs/figures/overview.py DIR FILE

``recon demo --out DIR`` measures the two conflict maps that the figure shows.
"""

import sys
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from recon.conflict import ConflictMap

SEVERITY = -0.1
INK, BRANCHED = "#767b82", "#d55e00"  # legible on a white and on a black page
MAPS = ("joint-plain-seed0", "joint-recon-seed0")


def overview(before: ConflictMap, after: ConflictMap) -> Figure:
    """Draw the S-conflict rate of every layer, in forward order.

    Args:
        before: The map of joint training.
        after: The map of joint training with branches, over the layers that stay shared.
    """
    rates, kept = before.rates(SEVERITY), after.rates(SEVERITY)
    places = {layer: place for place, layer in enumerate(rates)}
    own = [place for layer, place in places.items() if layer not in kept]
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    upper, lower = figure.subplots(2, sharex=True, sharey=True)
    upper.bar(
        list(places.values()), list(rates.values()), color=[INK if layer in kept else BRANCHED for layer in rates]
    )
    _title(upper, f"Joint training: all {len(rates)} layers are shared")
    lower.bar([places[layer] for layer in kept], list(kept.values()), color=INK)
    lower.plot(own, [0.012] * len(own), "s", color=BRANCHED, markersize=4)
    _title(lower, f"With Recon: {len(own)} layers have one copy per task (squares), {len(kept)} stay shared")
    lower.set_xlabel("layer, from input to output", color=INK)
    figure.supylabel("steps in which the tasks conflict", color=INK, fontsize=10)
    return figure


def _title(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=10, color=INK)
    axes.set_xticks([])
    axes.tick_params(colors=INK, labelsize=8)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(INK)


def main(folder: Path, path: Path) -> None:
    """Draw the figure from the folder of a demo."""
    maps = [ConflictMap.load(folder / "runs" / name / "conflict_map.json") for name in MAPS]
    with matplotlib.rc_context({"svg.hashsalt": "recon"}):  # the same file from the same maps
        overview(*maps).savefig(path, transparent=True, metadata={"Date": None})


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
