"""Edges between regions, one pixel wide.

Edges of PASCAL-Context are the places where a map of labels changes, thinned. Thinning is algorithm
A1 of Guo & Hall, "Parallel Thinning with Two-Subiteration Algorithms", CACM 1989, in the form of
Lam, Lee & Suen, "Thinning Methodologies", PAMI 1992, p. 879, as MATLAB's ``bwmorph`` has it.
"""

import numpy as np
from scipy.ndimage import convolve

_LAPLACE = np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]])
_AROUND = ((1, 2), (0, 2), (0, 1), (0, 0), (1, 0), (2, 0), (2, 1), (2, 2))
"""Corners of the windows of the neighbours x1 to x8, from the east counter-clockwise."""


def edges_of(labels: np.ndarray) -> np.ndarray:
    """The pixels where labels change, thinned.

    >>> edges_of(np.array([[1, 1, 2, 2]] * 3)).astype(int)
    array([[0, 0, 0, 0],
           [0, 1, 0, 0],
           [0, 1, 0, 0]])

    Args:
        labels: ``(H, W)``, integers.

    Returns:
        ``(H, W)``, bool.
    """
    return thinned(convolve(labels.astype(np.int64), _LAPLACE, mode="mirror") != 0)


def thinned(mask: np.ndarray) -> np.ndarray:
    """A mask with its lines one pixel wide; what was connected stays connected.

    Args:
        mask: ``(H, W)``, bool.
    """
    mask = mask.copy()
    left = np.count_nonzero(mask)
    while True:
        for step in (0, 1):
            mask &= ~_removable(mask, step)
        before, left = left, np.count_nonzero(mask)
        if left == before:
            return mask


def _removable(mask: np.ndarray, step: int) -> np.ndarray:
    """The pixels that a subiteration takes away: conditions G1, G2, and G3 or G3'."""
    padded = np.pad(mask, 1)
    height, width = mask.shape
    x1, x2, x3, x4, x5, x6, x7, x8 = (padded[top : top + height, left : left + width] for top, left in _AROUND)
    crossings = sum(
        (~straight & (diagonal | following)).astype(np.int8)
        for straight, diagonal, following in ((x1, x2, x3), (x3, x4, x5), (x5, x6, x7), (x7, x8, x1))
    )
    left_pairs = sum((one | other).astype(np.int8) for one, other in ((x1, x2), (x3, x4), (x5, x6), (x7, x8)))
    right_pairs = sum((one | other).astype(np.int8) for one, other in ((x2, x3), (x4, x5), (x6, x7), (x8, x1)))
    neighbours = np.minimum(left_pairs, right_pairs)
    kept = (x2 | x3 | ~x8) & x1 if step == 0 else (x6 | x7 | ~x4) & x5
    return mask & (crossings == 1) & (neighbours >= 2) & (neighbours <= 3) & ~kept
