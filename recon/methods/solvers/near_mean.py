"""The deviation from the mean gradient, within a ball, that serves the worst-served task best."""

from math import sqrt

import numpy as np

from recon.methods.solvers.gramian import Array, nearest_combination
from recon.methods.solvers.resolution import resolution

_MAX_ITERATIONS = 100
_TOLERANCE = 1e-8
# Inner products in float64 cannot tell a shorter convex combination of unit vectors from zero. Nor
# can they below the resolution of the gradients.
_RESOLUTION = 1e-7
# Length of a separate component that each of some opposed directions gets. It keeps multipliers
# below radius / _SOFTNESS.
_SOFTNESS = 1e-8


def softened(directions: Array) -> Array:
    """Directions in columns, each with a small separate part, so that no combination vanishes."""
    return np.vstack([directions, max(_SOFTNESS, resolution()) * np.eye(directions.shape[1])])


def best_deviation(
    directions: Array, toward_mean: Array, inverse: Array, radius: float, bound: float, method: str
) -> Array:
    """Maximise min_i (m_i + a_i·x) / v_i over |x| <= radius by Newton's method from above.

    For a given level, the shortest x with m_i + a_i·x >= level v_i for every task solves a
    non-negative least-squares problem, and x = Σ u_i a_i with u >= 0. The dual value at u bounds
    the best level from above and becomes the next level, until |x| = radius.

    Args:
        directions: (N, K), the a_i in columns.
        toward_mean: m, (K,).
        inverse: v, (K,), positive.
        radius: Radius of the ball, > 0.
        bound: An upper bound of the best level, unless it is above the dual at its vertices.
        method: Name for the error.

    Returns:
        u, (K,), the weights of the directions in x.

    Raises:
        RuntimeError: The relative KKT residual stayed above 1e-8.
    """
    level = min(bound, float(((toward_mean + radius) / inverse).min()))
    for _ in range(_MAX_ITERATIONS):
        u = nearest_combination(directions, level * inverse - toward_mean)
        if not u.any():  # the radius is below rounding: the ball holds nothing but the mean gradient
            return u
        x = directions @ u
        length = sqrt(x @ x)
        value = float((toward_mean @ u + radius * length) / (inverse @ u))
        if value >= level - 1e-15 * (abs(level) + 1 + radius):
            break
        level = value
    multipliers: Array = radius * u / length
    _check_kkt(directions, toward_mean, multipliers, value * inverse, radius, method)
    return multipliers


def harmless_or_best_deviation(
    directions: Array, toward_mean: Array, inverse: Array, radius: float, method: str
) -> Array:
    """The same where no update gains on every task.

    The best level is then 0 if the ball holds an x that harms no task, and negative otherwise. Of
    all x of level 0 this is the shortest.
    """
    directions = softened(directions)
    u = nearest_combination(directions, -toward_mean)  # x / (1 + m'u) is the shortest that harms none
    x = directions @ u
    length, divisor = sqrt(x @ x), 1 + toward_mean @ u
    if length <= radius * divisor * (1 + _TOLERANCE / 10):
        harmless: Array = u / divisor
        return harmless
    bound = (toward_mean @ u + radius * length) / (inverse @ u)
    return best_deviation(directions, toward_mean, inverse, radius, float(bound), method)


def _check_kkt(
    directions: Array, toward_mean: Array, multipliers: Array, levels: Array, radius: float, method: str
) -> None:
    """Raise a RuntimeError unless the multipliers solve the dual.

    Every task must reach its level, and every task with a multiplier must lie on it. Residuals are
    relative to the terms that cancel.
    """
    gain = toward_mean + directions.T @ (directions @ multipliers) - levels
    size = 1 + radius + np.abs(levels) + _RESOLUTION * multipliers.sum()
    residual = max((-gain / size).max(), (np.abs(gain) / size * multipliers).max() / multipliers.max())
    if not residual <= _TOLERANCE:
        raise RuntimeError(
            f"{method}: the dual is solved to a relative KKT residual of {residual:.1e}, not {_TOLERANCE:.0e}"
        )
