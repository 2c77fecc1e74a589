"""Projection onto the probability simplex: every positive entry is lowered by one common amount.

Duchi, Shalev-Shwartz, Singer & Chandra, "Efficient projections onto the l1-ball", ICML 2008.
"""

import numpy as np
import torch
from torch import Tensor

from recon.methods.solvers.gramian import Array


def nearest_on_simplex(vector: Array) -> Array:
    """The point of the simplex nearest to a vector (K,).

    It works on Python floats: NumPy or PyTorch calls would take longer than the rest of a small
    solve.

    Example:
        >>> nearest_on_simplex(np.array([1.5, 1.0, 0.0]))
        array([0.75, 0.25, 0.  ])
    """
    values = sorted(vector.tolist(), reverse=True)
    largest = values[0]  # subtracted, or a sum of 1 is lost beside large numbers
    total = level = -1.0
    for count, value in enumerate(values, start=1):
        if value - largest < level:
            break
        total += value - largest
        level = total / count
    nearest: Array = np.maximum(vector - largest - level, 0.0)
    return nearest


def nearest_rows_on_simplex(vectors: Array) -> Array:
    """As :func:`nearest_on_simplex`, for each row of (N, K).

    Example:
        >>> nearest_rows_on_simplex(np.array([[1.5, 1.0, 0.0], [0.0, 0.0, 0.0]]))
        array([[0.75      , 0.25      , 0.        ],
               [0.33333333, 0.33333333, 0.33333333]])
    """
    vectors = vectors - vectors.max(axis=1, keepdims=True)
    excess = np.sort(vectors, axis=1)[:, ::-1].cumsum(axis=1) - 1
    levels = (excess / np.arange(1, vectors.shape[1] + 1)).max(axis=1, keepdims=True)
    nearest: Array = np.maximum(vectors - levels, 0.0)
    return nearest


def nearest_on_simplex_on_device(vector: Tensor) -> Tensor:
    """As :func:`nearest_on_simplex`, for a tensor (K,) on its device, for which no host waits."""
    vector = vector - vector.max()
    excess = vector.sort(descending=True).values.cumsum(0) - 1
    counts = torch.arange(1, len(vector) + 1, dtype=vector.dtype, device=vector.device)
    return (vector - (excess / counts).max()).clamp(min=0)


def among_themselves(rows: Tensor) -> tuple[Tensor, Tensor]:
    """The weights of present tasks among themselves, and their total among all tasks.

    The weights of all K tasks sum to one. In a step with some of the tasks these move among
    themselves and keep their total: absent tasks neither gain nor lose. No host waits for an
    accelerator.

    Args:
        rows: (..., K), weights of the present tasks, none negative.

    Returns:
        Points of the simplex, (..., K), and the totals, (..., 1), that multiply them back to the
        rows. Rows that sum to one, up to rounding, are returned as they are, with a total of 1. For
        a total of 0 the point has equal weights.

    Example:
        >>> among_themselves(torch.tensor([0.125, 0.375]))
        (tensor([0.2500, 0.7500]), tensor([0.5000]))
    """
    total = rows.sum(-1, keepdim=True)
    total = torch.where((total - 1).abs() <= torch.finfo(rows.dtype).eps ** 0.5, 1.0, total)
    return torch.where(total > 0, rows / total, 1 / rows.shape[-1]), total
