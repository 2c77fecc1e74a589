"""Gramians as the small dense problems they are: how one is computed, and the solver that MGDA and CAGrad share."""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import nnls
from torch import Tensor

Array = NDArray[np.float64]

# Columns of the Jacobian turned to float64 at a time: keeps the copy small beside the Jacobian.
_BLOCK = 1 << 18
_ROUNDING = 1e-14


def gramian_of(jacobian: Tensor) -> Tensor:
    """Inner products of the rows of a (K, P) Jacobian, (K, K), in float64 on the Jacobian's device.

    In float64 nothing that fits into float32 can overflow or vanish when squared.
    """
    tasks = jacobian.shape[0]
    total = torch.zeros(tasks, tasks, dtype=torch.float64, device=jacobian.device)
    for block in jacobian.detach().split(_BLOCK, dim=1):
        block = block.double()
        total += block @ block.T
    return total


def unit_root(gramian: Array) -> tuple[Array, Array]:
    """K gradients, none of them zero, as norms (K,) and K unit columns (K, K) whose inner products are the cosines.

    The first row is zero exactly where the gradients are linearly dependent (to rounding). Gradients are separated from their norms so that 1e-10 beside 1e15 costs no digit.
    """
    norms = np.sqrt(gramian.diagonal())
    eigenvalues, eigenvectors = np.linalg.eigh(gramian / norms[:, None] / norms)
    # Below this they are rounding, and their square root would turn 1e-16 of noise into 1e-8 of gradient.
    eigenvalues[eigenvalues < _ROUNDING * eigenvalues[-1]] = 0.0
    return norms, np.sqrt(eigenvalues)[:, None] * eigenvectors.T


def nearest_combination(columns: Array, heights: Array) -> Array:
    """Minimise |columns u|^2 + (1 - heights'u)^2 over u >= 0, exactly (Lawson & Hanson's non-negative least squares).

    Up to its length, u is the combination of shortest result: x = columns u / (1 - heights'u) is the shortest vector with
    columns'x >= heights, unless there is none, and then columns u = 0 and heights'u = 1 (Lawson & Hanson 1974, ch. 23.4).

    Args:
        columns: (N, K), one column a task.
        heights: (K,).

    Raises:
        RuntimeError: If the active-set iteration does not end.
    """
    tasks = len(heights)
    target = np.zeros(len(columns) + 1)
    target[-1] = 1.0
    try:
        solution, _ = nnls(np.vstack([columns, heights]), target, maxiter=30 * tasks)
    except RuntimeError as error:
        raise RuntimeError(f"non-negative least squares did not end in {30 * tasks} iterations for {tasks} tasks") from error
    return solution
