"""The conflict of each layer: of one map, of several seeds, or of maps beside each other."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from recon.plot.axes import GREY, dots, given_or_new, height_of_rows, name_rows
from recon.plot.contracts import Scored
from recon.tasks.colours import OKABE_ITO

_RATE = "fraction of observed (step, pair) with cosine < {}"
"""Title of rates, to be filled in with the severity."""

_MARKS = tuple(zip("os^DvXP", OKABE_ITO.values(), strict=False))


def conflict_by_layer(
    maps: Scored | Sequence[Scored],
    severity: float,
    branched: Sequence[Sequence[str]] = (),
    after: Sequence[Scored] = (),
    ax: Axes | None = None,
) -> Axes:
    """Draw the conflict of each layer in the order of the map: the mean over maps and the range.

    Args:
        maps: A map, or one a seed, of the same layers. Maps of searches give S-conflict rates, and
            imported maps scores.
        severity: Severity S.
        branched: Layers that are branched, one list a seed, which get a mark of their own.
        after: Maps of training with these branches, one a seed, of layers that stayed shared. Their
            mean is drawn too.
        ax: Axes to draw on; by default those of a new figure.

    Returns:
        The axes.

    Raises:
        ValueError: A map does not know the severity.

    Example:
        >>> import recon
        >>> axes = conflict_by_layer(recon.ConflictMap.load("cityscapes-segnet"), severity=0.0)
        >>> axes.get_xlabel()
        'S-conflict score at S = 0.0'
    """
    maps = list(maps) if isinstance(maps, Sequence) else [maps]
    values, later = ([_values(one, severity) for one in each] for each in (maps, after))
    return _by_layer(values, _title(maps[0], severity), branched, later, ax)


def rates_by_layer(
    rates: Sequence[Mapping[str, float]],
    severity: float,
    branched: Sequence[Sequence[str]] = (),
    after: Sequence[Mapping[str, float]] = (),
    ax: Axes | None = None,
) -> Axes:
    """Draw the S-conflict rate of each layer, of which there need be no map.

    Args:
        rates: Layer -> rate, one a seed, of the same layers.
        severity: Severity S of the rates.
        branched: Layers that are branched, one list a seed, which get a mark of their own.
        after: Rates of training with these branches, one a seed, of layers that stayed shared.
        ax: Axes to draw on; by default those of a new figure.

    Returns:
        The axes.

    Example:
        >>> axes = rates_by_layer([{"conv1": 0.4, "conv2": 0.1}], severity=0.0)
        >>> [text.get_text() for text in axes.get_yticklabels()]
        ['conv1', 'conv2']
    """
    return _by_layer(rates, _RATE.format(severity), branched, after, ax)


def compare_by_layer(maps: Mapping[str, Scored], severity: float | None = None, ax: Axes | None = None) -> Axes:
    """Draw the conflict of each layer in several maps, each as a share of its own highest score.

    Maps of different lengths, and imported ones, become comparable by that.

    Args:
        maps: Name -> map, at most seven. Layers that some map lacks are left out.
        severity: Severity S; by default an imported map's own.
        ax: Axes to draw on; by default those of a new figure.

    Returns:
        The axes.

    Raises:
        ValueError: The maps have no layer in common, are more than seven, or do not know the
            severity; or no severity is given for maps of searches.

    Example:
        >>> import recon
        >>> published = recon.ConflictMap.load("nyuv2-mtan")
        >>> axes = compare_by_layer({"first": published, "second": published})
        >>> [text.get_text() for text in axes.get_legend().get_texts()]
        ['first', 'second']
    """
    if not 1 <= len(maps) <= len(_MARKS):
        raise ValueError(f"{len(maps)} maps do not fit into one picture; give 1 to {len(_MARKS)}")
    known = next((one.severity for one in maps.values() if one.severity is not None), None)
    severity = known if severity is None else severity
    if severity is None:
        raise ValueError("no severity given; give one on the 0.01 grid in (-1, 0], such as -0.1")
    first = next(iter(maps.values())).layers
    layers = [layer for layer in first if all(layer in one.layers for one in maps.values())]
    if not layers:
        raise ValueError(f"the maps {', '.join(maps)} have no layer in common; compare maps of one network")
    axes = given_or_new(ax, height_of_rows(len(layers)))
    for (name, one), (marker, colour) in zip(maps.items(), _MARKS, strict=False):
        scores = one.scores(severity)
        highest = max(1, *scores.values())
        values = np.array([scores[layer] / highest for layer in layers])
        dots(axes, values, np.arange(len(layers)), None, marker, colour, name)
    name_rows(axes, layers, fontsize=7)
    axes.set_xlim(left=0)
    axes.set_xlabel(f"S-conflict score at S = {severity}, as a share of the map's highest")
    axes.legend(fontsize=8)
    return axes


def _by_layer(
    seeds: Sequence[Mapping[str, float]],
    title: str,
    branched: Sequence[Sequence[str]],
    after: Sequence[Mapping[str, float]],
    ax: Axes | None,
) -> Axes:
    """Draw a value of each layer: the mean over seeds, and the range."""
    layers = list(seeds[0])
    values = np.array([[one[layer] for layer in layers] for one in seeds], dtype=np.float64)
    axes = given_or_new(ax, height_of_rows(len(layers)))
    for label, (marker, colour, chosen) in _groups(layers, branched).items():
        places = np.flatnonzero(chosen)
        if len(places):
            name = f"{label} ({len(places)})"
            dots(axes, values[:, places].mean(0), places, _reach(values[:, places]), marker, colour, name)
    if after:
        kept = [layer for layer in layers if all(layer in one for one in after)]
        means = np.array([np.mean([one[layer] for one in after]) for layer in kept])
        places = np.array([layers.index(layer) for layer in kept])
        dots(axes, means, places, None, "x", OKABE_ITO["vermillion"], f"after Recon ({len(kept)})")
    name_rows(axes, layers, fontsize=7)
    axes.set_xlim(left=0)
    axes.set_xlabel(title)
    if branched or after:
        axes.legend(fontsize=8)
    return axes


def _values(one: Scored, severity: float) -> Mapping[str, float]:
    return one.rates(severity) if one.severity is None else one.scores(severity)


def _title(one: Scored, severity: float) -> str:
    if one.severity is not None:
        return f"S-conflict score at S = {severity}"
    return _RATE.format(severity)


def _groups(layers: Sequence[str], branched: Sequence[Sequence[str]]) -> dict[str, tuple[str, str, list[bool]]]:
    """Label -> marker, colour, and the layers that have it."""
    times = Counter(layer for seed in branched for layer in set(seed))
    number = len(branched)
    return {
        "shared": ("o", GREY, [not times[layer] for layer in layers]),
        "branched with some seeds": ("D", OKABE_ITO["orange"], [0 < times[layer] < number for layer in layers]),
        "branched by Recon": ("s", OKABE_ITO["blue"], [0 < times[layer] == number for layer in layers]),
    }


def _reach(values: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """The way from the mean to the lowest and to the highest value; ``None`` for one map."""
    if len(values) < 2:
        return None
    mean = values.mean(0)
    return np.stack([mean - values.min(0), values.max(0) - mean]).clip(min=0)
