"""The convex problem of Nash-MTL and FairGrad: weights that balance the gains of the tasks."""

from math import exp, log

import numpy as np
from scipy.linalg.lapack import dposv

from recon.methods.solvers.gramian import Array, hull_contains_zero, norms_and_cosines, unit_root
from recon.methods.solvers.resolution import resolution

_MAX_ITERATIONS = 40
_TOLERANCE = 1e-10
# Rounding error of terms that cancel, relative to their size.
_ROUNDING = 1e-15
# Inner products in float64 cannot tell a shorter convex combination of unit vectors from zero. Nor
# can they below the resolution of the gradients.
_RESOLUTION = 1e-6
# A solution with a shorter update, relative to the sum of the shares, may be rounding alone.
_SUSPICIOUS = 1e-3
# Logarithm of the largest ratio of norms that fairness distinguishes. Beyond it, unless power = 1,
# shares would vanish by rounding.
_WIDEST = np.log(1e6)
# Relative changes of b up to this size are not shortened.
_SMALL = 0.1
# Amounts added to the diagonal until Newton's method converges. Cosines without convergence are not
# positive definite to their accuracy.
_RAISES = (0.0, 1e-10, 1e-8, 1e-6, 1e-4)


class _NotConverged(Exception):
    pass


def fair_weights(gramian: Array, power: float) -> Array:
    """Solve ``gramian a = a**-power`` for a > 0, over the tasks whose gradient is not zero.

    The solution minimises the convex function a'(gramian)a / 2 - Σ ∫ a_i**-power. In units of the
    gradients' norms, b = norms * a, the equations read ``cosines b = norms**(power - 1) *
    b**-power``.

    Args:
        gramian: (K, K).
        power: Positive.

    Returns:
        a, (K,); zero for tasks without gradient. All are zero where there is no solution: a convex
        combination of the unit vectors vanishes, as far as their cosines can tell
        (Pareto-stationarity).

    Raises:
        RuntimeError: The relative residual did not fall to 1e-10, or to the level of rounding.
    """
    weights = np.zeros(len(gramian))
    nonzero = gramian.diagonal() > 0
    if nonzero.any():
        norms, cosines = norms_and_cosines(gramian[nonzero][:, nonzero])
        log_norms = np.log(norms)
        shares = _shares(cosines, (power - 1) * np.maximum(log_norms, log_norms.max() - _WIDEST), power)
        if shares is not None:
            weights[nonzero] = shares / norms
    return weights


def fair_weights_of_pairs(norms: Array, cosines: Array) -> Array:
    """Solve ``gramian a = 1 / a`` for many pairs of tasks that are not opposed: b_1 = b_2.

    Args:
        norms: (N, 2), positive.
        cosines: (N,), above -1.

    Returns:
        a, (N, 2).
    """
    weights: Array = 1 / np.sqrt(1 + cosines)[:, None] / norms
    return weights


def _shares(cosines: Array, log_heights: Array, power: float) -> Array | None:
    """Solve ``cosines b = heights * b**-power`` for b > 0; ``None`` where there is no solution."""
    highest = log_heights.max()
    for amount in _RAISES:
        try:
            log_b = _newton(_raised(cosines, amount), log_heights - highest, power)
        except _NotConverged:
            if amount == 0 and _is_stationary(cosines):
                return None
            continue
        return None if log_b is None else np.exp(log_b + highest / (1 + power))
    raise RuntimeError(f"fair weights of {len(cosines)} tasks were not found in {_MAX_ITERATIONS} Newton iterations")


def _is_stationary(cosines: Array) -> bool:
    return hull_contains_zero(unit_root(cosines)[1], _shortest())


def _shortest() -> float:
    return max(_RESOLUTION, resolution())


def _raised(matrix: Array, amount: float | Array) -> Array:
    """A copy with the amount added to the diagonal."""
    raised = matrix.copy()
    raised.flat[:: len(matrix) + 1] += amount
    return raised


def _newton(cosines: Array, log_heights: Array, power: float) -> Array | None:
    """Logarithms of b by Newton's method, or ``None``.

    Each iteration scales b to the best point of its ray and takes a Newton step there. Everything
    is relative to b: ``parts`` are b_i cosines_ij b_j, and by the equations their rows sum to
    ``values``. Nothing depends on the units of b.
    """
    log_b, shortest = log_heights / (1 + power), _shortest()
    for _ in range(_MAX_ITERATIONS):
        b = np.exp(log_b)
        parts = cosines * b * b[:, None]
        total, sum_b = float(parts.sum()), float(b.sum())
        if total <= (shortest * sum_b) ** 2:
            return None
        values = np.exp(log_heights + (1 - power) * log_b)
        log_scale = log(float(values.sum()) / total) / (1 + power)
        log_b, parts = log_b + log_scale, exp(2 * log_scale) * parts
        values *= exp((1 - power) * log_scale)
        missing = values - parts.sum(axis=1)
        converged = (np.abs(missing) <= _TOLERANCE * values + 10 * _ROUNDING * np.abs(parts).sum(axis=1)).all()
        if not converged:
            change = _newton_step(parts, missing, power * values)
            largest = np.abs(change).max()
            converged = largest <= 1e-3 and largest <= _noise(parts, values) / power
        if converged:
            break
        log_b = log_b + (np.log1p(change) if largest <= _SMALL else _damped(change, parts, values, missing, power))
    else:
        if missing @ change > 1e-12 * values.sum():  # squared length of the step relative to the update's
            raise _NotConverged
    suspicious = total <= (max(_SUSPICIOUS, 2 * shortest) * sum_b) ** 2
    return None if suspicious and _is_stationary(cosines) else log_b


def _newton_step(parts: Array, missing: Array, curvature: Array) -> Array:
    """The relative change of b."""
    change: Array
    _, change, failed = dposv(_raised(parts, curvature), missing)
    if failed:
        raise _NotConverged
    return change


def _noise(parts: Array, values: Array) -> float:
    """Relative change of b that rounding alone asks for."""
    roots = np.sqrt(values)
    return float(_ROUNDING * (np.abs(parts) / roots / roots[:, None]).sum(axis=1).max())


def _damped(change: Array, parts: Array, values: Array, missing: Array, power: float) -> Array:
    """Changes of log b, shortened until the function falls by a part of what its slope promises.

    There are two ways to move, and neither leaves the positive numbers. The way with the lower
    function value is taken. The straight way suits cosines that are nearly singular. In the bent
    way, shares that must shrink by orders of magnitude follow the growth of heights * b**-power.
    """
    sums, slope = values - missing, -(missing @ change)

    def straight(length: float) -> Array:
        return np.log1p(length * min(1.0, 0.9 / max(-change.min(), 0.9)) * change)

    def bent(length: float) -> Array:
        shrinks = np.log1p(-length * power * np.minimum(change, 0.0)) / power
        return np.log1p(length * np.maximum(change, 0.0)) - shrinks

    def fall(steps: Array) -> float:
        relative = np.expm1(steps)
        integral = steps if power == 1 else np.expm1((1 - power) * steps) / (1 - power)
        return float(sums @ relative + relative @ parts @ relative / 2 - values @ integral)

    length = 1.0
    while length > _ROUNDING:
        steps: Array = min(straight(length), bent(length), key=fall)
        if fall(steps) <= 0.1 * length * slope:
            return steps
        length /= 2
    raise _NotConverged
