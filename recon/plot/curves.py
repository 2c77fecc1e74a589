"""Curves of training: a number over epochs or steps, for several runs."""

from collections.abc import Mapping, Sequence
from itertools import cycle

from matplotlib.axes import Axes

from recon.plot.axes import as_it_is, given_or_new
from recon.tasks.colours import OKABE_ITO

_COLOURS = [colour for name, colour in OKABE_ITO.items() if name != "yellow"]  # too pale for a line on white
_DASHES = ("-", "--", ":")


def training_curves(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    value: str,
    over: str = "epoch",
    ax: Axes | None = None,
) -> Axes:
    """Draw one line for each run; neighbours differ in colour, and every sixth in its dashes.

    Args:
        curves: Name of the run -> places and values. A run without any still takes its colour, so
            that it has the same one in several pictures.
        value: The name of the values.
        over: The name of the places.
        ax: Axes to draw on; by default those of a new figure.

    Returns:
        The axes.

    Example:
        >>> axes = training_curves({"joint": ([0, 1, 2], [1.0, 0.5, 0.4])}, "train/loss")
        >>> axes.get_ylabel(), len(axes.lines)
        ('train/loss', 1)
    """
    axes = given_or_new(ax, 3.2)
    looks = cycle([(colour, dashes) for dashes in _DASHES for colour in _COLOURS])
    for (name, (places, values)), (colour, dashes) in zip(curves.items(), looks, strict=False):
        axes.plot(places, values, dashes, color=colour, linewidth=1.4, label=as_it_is(name))
    axes.set_xlabel(as_it_is(over))
    axes.set_ylabel(as_it_is(value))
    axes.grid(color="0.9", linewidth=0.6)
    if curves:
        axes.legend(fontsize=7)
    return axes
