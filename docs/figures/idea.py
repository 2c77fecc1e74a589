"""The drawing of docs/idea.md: conflict of two gradients, a map, and a branched network.

    python docs/figures/idea.py FILE

It is drawn, not measured: six layers and their rates are made up.
"""

import sys
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from recon.plot import branches
from recon.tasks.colours import OKABE_ITO

RATES = {"conv1": 0.08, "conv2": 0.31, "conv3": 0.12, "conv4": 0.38, "conv5": 0.16, "fc": 0.1}
BRANCHED = ("conv2", "conv4")
FIRST, SECOND = list(OKABE_ITO.values())[:2]
GREY = "#767b82"


def idea() -> Figure:
    """Draw the three steps beside each other."""
    figure = Figure(figsize=(10, 3.2), layout="constrained")
    conflict, scores, tree = figure.subplots(1, 3)
    _draw_gradients(conflict)
    layers = list(RATES)
    colours = ["#d55e00" if layer in BRANCHED else GREY for layer in layers]
    scores.barh(layers, list(RATES.values()), color=colours)
    scores.invert_yaxis()
    scores.set_xlabel("steps with conflict")
    scores.set_xticks([])
    scores.spines[["top", "right"]].set_visible(False)
    scores.set_title("2. Find: the conflict map")
    branches(layers, BRANCHED, ["task A", "task B"], ax=tree)
    tree.set_title("3. End it: a copy per task")
    tree.set_xlabel("")
    return figure


def _draw_gradients(axes: Axes) -> None:
    """Two task gradients at more than a right angle, and their sum, which turns from task B."""
    gradients = {"task A": (2.2, 0.6, FIRST), "task B": (-1.2, 0.7, SECOND), "sum": (1.0, 1.3, GREY)}
    for name, (x, y, colour) in gradients.items():
        axes.annotate("", (x, y), (0, 0), arrowprops={"arrowstyle": "-|>", "color": colour, "lw": 2.5})
        axes.text(x, y + 0.08, name, color=colour, ha="center", va="bottom")
    axes.set(xlim=(-1.8, 2.6), ylim=(-0.3, 1.9), aspect="equal", title="1. Two gradients conflict")
    axes.axis("off")


if __name__ == "__main__":
    matplotlib.rcParams["svg.hashsalt"] = "idea"
    idea().savefig(Path(sys.argv[1]), facecolor="white", metadata={"Date": None})
