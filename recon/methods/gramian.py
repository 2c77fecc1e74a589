"""Gramians as the small dense problems they are: how one is computed, and the solver that MGDA and CAGrad share."""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import nnls
from torch import Tensor

Array = NDArray[np.float64]

# Columns of the Jacobian turned to float64 at a time: keeps the copy small beside the Jacobian.
_BLOCK = 1 << 18
# Eigenvalues of a matrix of cosines, relative to the largest, that rounding alone can produce.
_ROUNDING = 1e-15


def gramian_of(jacobian: Tensor) -> Tensor:
    """Inner products of the rows of a (K, P) Jacobian, (K, K), in float64 on the Jacobian's device.

    In float64 nothing that fits into float32 overflows or vanishes when squared.
    """
    tasks = jacobian.shape[0]
    total = torch.zeros(tasks, tasks, dtype=torch.float64, device=jacobian.device)
    for block in jacobian.detach().split(_BLOCK, dim=1):
        block = block.double()
        total += block @ block.T
    return total


def unit_root(gramian: Array) -> tuple[Array, Array]:
    """K nonzero gradients as norms (K,) and unit columns (K, K): vectors with the gradients' norms and angles.

    The rows are orthogonal, the shortest first, and as long as the singular values of the directions. Norms and
    directions are kept apart so that 1e-10 beside 1e15 costs no digit.
    """
    norms = np.sqrt(gramian.diagonal())
    eigenvalues, eigenvectors = np.linalg.eigh(gramian / norms[:, None] / norms)
    # A square root would turn 1e-16 of rounding into 1e-8 of gradient.
    eigenvalues[eigenvalues < _ROUNDING * eigenvalues[-1]] = 0.0
    return norms, np.sqrt(eigenvalues)[:, None] * eigenvectors.T


def nearest_combination(columns: Array, heights: Array) -> Array:
    """Minimise |columns u|² + (1 - heights'u)² over u >= 0, exactly, by non-negative least squares.

    The shortest x with columns'x >= heights is then columns u / (1 - heights'u). If there is no such x, columns u = 0
    and heights'u = 1 (Lawson & Hanson, "Solving Least Squares Problems", 1974, chapter 23.4).

    Args:
        columns: (N, K).
        heights: (K,).

    Returns:
        u, (K,).

    Raises:
        RuntimeError: The active-set iteration did not end.
    """
    target = np.zeros(len(columns) + 1)
    target[-1] = 1.0
    iterations = 30 * len(heights)
    try:
        u: Array = nnls(np.vstack([columns, heights]), target, maxiter=iterations)[0]
    except RuntimeError as error:
        raise RuntimeError(f"non-negative least squares did not end in {iterations} iterations") from error
    return u
