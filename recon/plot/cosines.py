"""Histograms of the cosines of task gradients, before and after layers are branched."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from recon.errors import number_of
from recon.plot.axes import given_or_new
from recon.plot.contracts import Measured
from recon.tasks.colours import OKABE_ITO

MERGED_BINS = 2
"""Histogram bins of 0.01 drawn as one bar."""

_VISIBLE = 0.005  # of the highest bar; the picture ends at lower bars


def cosine_histograms(
    before: Measured | Sequence[Measured],
    after: Measured | Sequence[Measured] = (),
    layers: Sequence[str] = (),
    ax: Axes | None = None,
) -> Axes:
    """Draw the cosines of task gradients, alone or before and after Recon.

    Args:
        before: A map of plain training, or one a seed.
        after: Maps of training with Recon, for the same seeds. Each has the layers that stayed
            shared, and the cosines before are those of these layers.
        layers: The layers to count, where there is no map of after; by default all.
        ax: Axes to draw on; by default those of a new figure.

    Returns:
        The axes.

    Raises:
        ValueError: There is another number of maps after than before, or no cosine at all.

    Example:
        >>> import torch, recon
        >>> analyzer = recon.ConflictAnalyzer(torch.nn.Linear(2, 2), tasks=["seg", "depth"])
        >>> analyzer.observe(torch.tensor([[[1.0, -0.5], [-0.5, 1.0]]]))
        >>> axes = cosine_histograms(analyzer.conflict_map())
        >>> axes.get_legend().get_texts()[0].get_text()
        '100.0% conflicting'
    """
    before, after = _maps(before), _maps(after)
    if after and len(before) != len(after):
        raise ValueError(f"{number_of(len(before), 'map')} before and {len(after)} after; give those of the same seeds")
    axes = given_or_new(ax, height=4)
    area: dict[str, Any] = {"fill": True, "color": OKABE_ITO["orange"], "alpha": 0.6}
    line: dict[str, Any] = {"color": OKABE_ITO["blue"], "linewidth": 1.8}
    if after:
        kept = [_counts(one, own.layers) for one, own in zip(before, after, strict=True)]
        reach = _draw(axes, sum(kept), "before Recon: ", area)
        reach = max(reach, _draw(axes, sum(_counts(one, one.layers) for one in after), "after Recon: ", line))
    else:
        reach = _draw(axes, sum(_counts(one, layers or one.layers) for one in before), "", area)
    axes.set_xlim(-reach, reach)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_xlabel("cosine of two task gradients, layer by layer")
    axes.set_ylabel("density")
    axes.legend()
    return axes


def _maps(given: Measured | Sequence[Measured]) -> list[Measured]:
    return list(given) if isinstance(given, Sequence) else [given]


def _draw(axes: Axes, counts: Any, label: str, look: dict[str, Any]) -> float:
    """Draw one histogram; return how far from 0 it is seen."""
    if not np.any(counts):
        raise ValueError("no cosine was observed in these layers; observe a step in which two tasks have gradients")
    edges = np.linspace(-1, 1, len(counts) // MERGED_BINS + 1)
    density = counts.reshape(-1, MERGED_BINS).sum(1) / counts.sum() / (edges[1] - edges[0])
    below = counts[: len(counts) // 2].sum() / counts.sum()
    axes.stairs(density, edges, label=f"{label}{below:.1%} conflicting", **look)
    seen = edges[:-1][density > _VISIBLE * density.max()]
    return float(max(-seen[0], seen[-1] + edges[1] - edges[0]))


def _counts(one: Measured, layers: Sequence[str]) -> NDArray[np.int64]:
    rows = [one.layers.index(layer) for layer in layers]
    return one.histogram[rows].sum(dim=(0, 1)).numpy()
