"""Small dense problems of the Gramian: computation, factors, and least squares over u >= 0."""

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dpotrf
from scipy.optimize import nnls
from torch import Tensor

from recon.gradients.precision import in_double
from recon.methods.solvers.resolution import resolution

Array = NDArray[np.float64]

# Columns of the Jacobian turned to float64 at a time, so that the copy stays small.
_BLOCK = 1 << 18
# Largest eigenvalue of cosines, relative to the largest of all, that rounding alone can produce.
_ROUNDING = 1e-15
# Below this part across all other vectors, a unit vector has lost half of its digits.
_DEPENDENT = 1e-5
# The same for inner products in float32, which know the square of this to about three digits.
_CLOSE = 0.03


def gramian_of(jacobian: Tensor) -> Tensor:
    """Inner products of the rows of a (K, P) Jacobian: (K, K), in float64.

    The result is on the Jacobian's device, or on the device that :func:`in_double` chooses. In
    float64 no square of a float32 number overflows or vanishes.
    """
    total: Tensor | float = 0.0
    for part in jacobian.detach().split(_BLOCK, dim=1):
        block = in_double(part)
        total = total + block @ block.T
    assert isinstance(total, Tensor)  # a matrix without columns is also one part
    return total


def norms_and_cosines(gramian: Array) -> tuple[Array, Array]:
    """The norms (K,) and cosines (K, K) of K nonzero gradients.

    Norms of 1e-10 beside 1e15 keep their digits.
    """
    norms = np.sqrt(gramian.diagonal())
    return norms, gramian / norms[:, None] / norms


def unit_root(gramian: Array) -> tuple[Array, Array]:
    """The norms (K,) of K nonzero gradients, and unit columns (K, K) with the gradients' angles.

    The rows are orthogonal, the shortest first, and as long as the singular values of the
    directions. Norms stand apart from directions, so that 1e-10 beside 1e15 costs no digit. Values
    below the resolution of the gradients are zero.
    """
    norms, cosines = norms_and_cosines(gramian)
    eigenvalues, eigenvectors = np.linalg.eigh(cosines)
    # A square root would turn 1e-16 of rounding into 1e-8 of gradient.
    eigenvalues[eigenvalues < max(_ROUNDING, resolution() ** 2) * eigenvalues[-1]] = 0.0
    return norms, np.sqrt(eigenvalues)[:, None] * eigenvectors.T


def unit_factor(gramian: Array) -> tuple[Array, Array]:
    """As :func:`unit_root`, by a Cholesky factor unless directions nearly depend on others.

    The factor is faster, and its rows form a triangle.
    """
    norms, cosines = norms_and_cosines(gramian)
    factor, failed = dpotrf(cosines)
    if failed or factor.diagonal().min() < max(_DEPENDENT, resolution()):
        return unit_root(gramian)
    return norms, factor


def softened_factor(gramian: Array) -> tuple[Array, Array]:
    """As :func:`unit_factor`, of gradients with an additional separate part each.

    The part is as long as the gradients' resolution, so opposed or dependent gradients are never
    quite opposed or dependent. Combinations with weights beyond 1 / resolution are longer than 1,
    and projections onto the dual cone need no longer multipliers. Products change by the square of
    the resolution, which is rounding.
    """
    norms, cosines = norms_and_cosines(gramian)
    amount = _softness()
    cosines.flat[:: len(cosines) + 1] += amount
    factor, failed = dpotrf(cosines)
    if failed:
        eigenvalues, eigenvectors = np.linalg.eigh(cosines)
        return norms, np.sqrt(np.maximum(eigenvalues, amount))[:, None] * eigenvectors.T
    return norms, factor


def softened_square() -> float:
    """The squared length of a direction of :func:`softened_factor`."""
    return 1.0 + _softness()


def _softness() -> float:
    return max(_ROUNDING, resolution() ** 2)


def nearly_dependent(gramian: Array) -> bool:
    """Whether float32 products say little about a gradient's distance from the others' span."""
    nonzero = gramian.diagonal() > 0
    if not nonzero.any():
        return False
    factor, failed = dpotrf(norms_and_cosines(gramian[nonzero][:, nonzero])[1])
    return bool(failed) or not factor.diagonal().min() > _CLOSE


def nearly_dependent_in(gramians: Array) -> list[int]:
    """The indices of those of (G, K, K) Gramians of which :func:`nearly_dependent` says so."""
    if gramians.shape[1] != 2:
        return [index for index, gramian in enumerate(gramians) if nearly_dependent(gramian)]
    areas = gramians[:, 0, 0] * gramians[:, 1, 1]
    close = areas - gramians[:, 0, 1] ** 2 <= _CLOSE**2 * areas
    indices: list[int] = np.flatnonzero(close & (areas > 0)).tolist()
    return indices


def nearest_combination(columns: Array, heights: Array) -> Array:
    """Minimise |columns u|² + (1 - heights'u)² over u >= 0, exactly, by non-negative least squares.

    The shortest x with columns'x >= heights is then columns u / (1 - heights'u). If no such x
    exists, columns u = 0 and heights'u = 1 (Lawson & Hanson, "Solving Least Squares Problems",
    1974, chapter 23.4).

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
    return least_squares(np.vstack([columns, heights]), target)


def least_squares(columns: Array, target: Array) -> Array:
    """Minimise |columns u - target|² over u >= 0, exactly, by Lawson & Hanson's method.

    Args:
        columns: (N, K).
        target: (N,).

    Returns:
        u, (K,).

    Raises:
        RuntimeError: The active-set iteration did not end.
    """
    iterations = 30 * columns.shape[1]
    try:
        u: Array = nnls(columns, target, maxiter=iterations)[0]
    except RuntimeError as error:
        raise RuntimeError(f"non-negative least squares did not end in {iterations} iterations") from error
    return u


def hull_contains_zero(directions: Array, resolution: float) -> bool:
    """Whether a convex combination of unit vectors is zero within the resolution.

    This is weak Pareto-stationarity.

    Args:
        directions: (K, K), from :func:`unit_root`.
        resolution: Length that cannot be told from zero.
    """
    smallest = directions[0]  # its length bounds combinations from below
    if smallest @ smallest > len(smallest) * resolution**2:
        return False
    u = nearest_combination(directions, np.ones(len(smallest)))
    x = directions @ u
    return bool(x @ x <= (resolution * u.sum()) ** 2)
