"""Projection onto the probability simplex."""

import torch
from torch import Tensor


def nearest_on_simplex(vector: Tensor) -> Tensor:
    """The point of the simplex nearest to a vector (K,): what stays positive is lowered by one common amount.

    Duchi, Shalev-Shwartz, Singer & Chandra, "Efficient projections onto the l1-ball", ICML 2008.
    """
    vector = vector - vector.max()  # so that a sum of 1 is not lost beside large numbers
    excess = vector.sort(descending=True).values.cumsum(0) - 1
    counts = torch.arange(1, len(vector) + 1, dtype=vector.dtype, device=vector.device)
    return (vector - (excess / counts).max()).clamp(min=0)
