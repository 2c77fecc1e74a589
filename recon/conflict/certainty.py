"""How sure a selection of layers is: the probability of each layer to be selected again."""

import numpy as np
from numpy.typing import NDArray

from recon.conflict.map import ConflictMap
from recon.conflict.measured import MeasuredMap
from recon.conflict.ranking import check_number_of_layers
from recon.gradients.layers import number_of_layers

SAMPLES = 1000
"""Searches that the bootstrap draws."""

SURE = 0.95
"""Probability from which a layer counts as surely selected."""


def selection_probabilities(
    cmap: ConflictMap, k: int, severity: float, samples: int = SAMPLES, seed: int = 0
) -> dict[str, float]:
    """Return the probability of each layer to be among the ``k`` of highest score, by bootstrap.

    Stretches of steps are drawn anew with replacement, as many as there are, and the layers are
    ranked again. Layers of equal score share their places by lot. The probabilities tell of the
    steps that this search might have had, not of other initial weights or other data.

    Args:
        cmap: The map of a search.
        k: The number of layers to select.
        severity: The severity of the scores.
        samples: The number of drawings.
        seed: Seed of the drawings.

    Returns:
        Layer -> probability, in the order of the map's layers. They sum to ``k``.

    Raises:
        ValueError: ``k`` is not from 1 to the number of layers, the severity is off the grid, or
            the map has no stretches of steps, or fewer than 8.

    Example:
        >>> import torch
        >>> from recon import ConflictAnalyzer
        >>> network = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
        >>> analyzer = ConflictAnalyzer(network, tasks=["a", "b"])
        >>> foes, friends = [[1.0, -0.5], [-0.5, 1.0]], [[1.0, 0.5], [0.5, 1.0]]
        >>> for _ in range(8):
        ...     analyzer.observe(torch.tensor([foes, friends]))
        >>> selection_probabilities(analyzer.conflict_map(), k=1, severity=-0.1)
        {'0': 1.0, '1': 0.0}
    """
    check_number_of_layers(k, cmap.layers)
    scores = resampled_scores(cmap, severity, samples, seed)
    by_lot = scores + np.random.default_rng(seed + 1).uniform(0, 0.5, scores.shape)
    selected = np.zeros(scores.shape, dtype=bool)
    np.put_along_axis(selected, np.argpartition(-by_lot, k - 1, axis=1)[:, :k], True, axis=1)
    return dict(zip(cmap.layers, selected.mean(axis=0).tolist(), strict=True))


def resampled_scores(cmap: ConflictMap, severity: float, samples: int, seed: int) -> NDArray[np.int64]:
    """Return the scores of searches made of stretches drawn anew, (``samples``, L).

    Raises:
        ValueError: The map has no stretches of steps, or fewer than 8; or the severity is off the
            grid.
    """
    stretches = cmap.stretches if isinstance(cmap, MeasuredMap) else None
    if stretches is None:
        raise ValueError(f"{cmap!r} has no stretches of steps to draw from; search with this version of Recon")
    return stretches.resampled(severity, samples, seed)


def describe_certainty(cmap: ConflictMap, k: int, severity: float) -> str:
    """Return as text how sure a selection is: the layers that another search may or may not select.

    Args:
        cmap: The map of a search.
        k: The number of layers to select.
        severity: The severity of the scores.

    Raises:
        ValueError: As :func:`selection_probabilities`.

    Example:
        >>> import torch
        >>> from recon import ConflictAnalyzer
        >>> network = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
        >>> analyzer = ConflictAnalyzer(network, tasks=["a", "b"])
        >>> foes, friends = [[1.0, -0.5], [-0.5, 1.0]], [[1.0, 0.5], [0.5, 1.0]]
        >>> for _ in range(8):
        ...     analyzer.observe(torch.tensor([foes, friends]))
        >>> print(describe_certainty(analyzer.conflict_map(), k=1, severity=-0.1))
        of the top 1, 1.0 are expected again (bootstrap over stretches of steps)
        probability to be selected 0.95 or more: 1 layer
    """
    probabilities = selection_probabilities(cmap, k, severity)
    again = sum(probabilities[layer] for layer in cmap.top(k, severity))
    ranked = sorted(cmap.layers, key=lambda layer: -probabilities[layer])
    sure = [layer for layer in ranked if probabilities[layer] >= SURE]
    unsure = [layer for layer in ranked if 1 - SURE < probabilities[layer] < SURE]
    width = max(map(len, ranked))
    return "\n".join(
        [
            f"of the top {k}, {again:.1f} are expected again (bootstrap over stretches of steps)",
            f"probability to be selected {SURE} or more: {number_of_layers(sure)}"
            + (f"; less, down to {1 - SURE:.2f}:" if unsure else ""),
            *(f"  {layer:<{width}}  {probabilities[layer]:.2f}" for layer in unsure),
        ]
    )
