"""A picture of what selections of layers capture of the conflict, and what they cost."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from recon.tasks.colours import OKABE_ITO

if TYPE_CHECKING:
    from recon.experiments.selection_preview import Selection


def score_and_price(
    tops: Sequence["Selection"], flops: Sequence["Selection"], parameters: Sequence["Selection"]
) -> Figure:
    """Draw the share of the score that selections capture, against FLOPs and against parameters.

    Args:
        tops: The top k layers, for growing k.
        flops: The best layers within growing budgets of FLOPs.
        parameters: The best layers within growing budgets of parameters.
    """
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, name, title, best in zip(
        panels, ("flops", "parameters"), ("FLOPs", "parameters"), (flops, parameters), strict=True
    ):
        look = {"color": OKABE_ITO["blue"], "linewidth": 1.5, "marker": "s", "markersize": 3}
        axes.plot(*_points(best, name), drawstyle="steps-post", label=f"best within a budget of {title}", **look)
        axes.plot(*_points(tops, name), "o", color=OKABE_ITO["orange"], markersize=4, label="top k")
        axes.set_xlabel(f"growth of the backbone's {title}, %")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    panels[1].set_xscale("symlog", linthresh=1)
    panels[0].set_ylabel("share of all conflict scores, %")
    return figure


def _points(selections: Sequence["Selection"], name: str) -> tuple[list[float], list[float]]:
    growth = [100 * (getattr(one, name).ratio - 1) for one in selections]
    return growth, [100 * one.captured for one in selections]
