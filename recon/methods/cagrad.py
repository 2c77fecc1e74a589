"""Conflict-averse gradient descent (CAGrad).

Liu, Liu, Jin, Stone & Liu, "Conflict-Averse Gradient Descent for Multi-Task Learning", NeurIPS 2021, algorithm 1.

    max_d min_i g_i . d  subject to  |d - g_0| <= c |g_0|,   g_0 = mean_i g_i
    dual:  min_w g_w . g_0 + c |g_0| |g_w|  over the simplex,  g_w = J' w;   update d = g_0 + c |g_0| g_w / |g_w|

Needs the Gramian. No state, no randomness. The update stays around the mean of the task gradients (mean scale); ``rescale`` divides it by
1, 1 + c^2 or 1 + c. For c < 1 the method converges to a minimum of the mean loss; c = 0 is the mean.

The published code minimises the dual with SLSQP (bounded scalar search for two tasks) and small constants under its roots; we solve it to
rounding. For a level m, the shortest x with g_i . (g_0 + x) >= m is a non-negative least-squares problem, and x = J' u for some u >= 0; the
dual value of u / sum(u) is an upper bound of the best level, and the next m (Newton's method on |x| = c |g_0|, from above). Where the dual
has its minimum at g_w = 0 its formula for d reads 0/0; of the d that solve the first problem we then take the one nearest to g_0.
"""

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from recon.methods.checks import check_number
from recon.methods.gramian import Array, nearest_combination, unit_root
from recon.methods.method import GramianMethod
from recon.methods.registry import register_method

_MAX_ITERATIONS = 100
_TOLERANCE = 1e-8
# A convex combination of unit vectors this short cannot be told from zero by their inner products in float64.
_RESOLUTION = 1e-7
# Length of the component of its own that each direction gets when others oppose it exactly: bounds the multipliers by c / 1e-8.
_SOFTNESS = 1e-8


@register_method("cagrad")
class CAGrad(GramianMethod):
    """The update near the mean gradient that is best for the task it serves worst.

    Args:
        c: Radius of the ball around the mean gradient, in units of its norm; a finite number >= 0, and below 1 for the paper's guarantee.
            The default is the published code's.
        rescale: What the update is divided by: 1 (``0``), 1 + c^2 (``1``, the published code's default) or 1 + c (``2``).
    """

    def __init__(self, c: float = 0.5, rescale: Literal[0, 1, 2] = 1) -> None:
        super().__init__()
        self.c = check_number("cagrad", "c", c, low=0.0)
        if rescale not in (0, 1, 2):
            raise ValueError(f"cagrad: rescale must be 0, 1 or 2, got {rescale!r}")
        self.rescale = rescale

    def weights(self, gramian: Tensor, losses: Tensor | None = None) -> Tensor:
        """Weights of the task gradients in the update, (K,). A single task has nothing to balance: its weight is 1."""
        tasks = len(gramian)
        if tasks == 1:
            return torch.ones(1, dtype=torch.float64)
        products = gramian.numpy()
        weights = np.full(tasks, 1 / tasks)
        nonzero = products.diagonal() > 0
        if self.c > 0 and nonzero.any():
            weights[nonzero] += _deviation(products[np.ix_(nonzero, nonzero)], self.c, tasks)
        return torch.from_numpy(weights / (1.0, 1 + self.c**2, 1 + self.c)[self.rescale])


def _deviation(gramian: Array, c: float, tasks: int) -> Array:
    """Weights z >= 0, one a nonzero task gradient, such that the update is g_0 + J' z.

    Works on unit directions r_i = g_i / |g_i|, with x and the level in units of |g_0|: no scale of the gradients is left in the problem.
    """
    norms, directions = unit_root(gramian)
    mean = directions @ norms / tasks
    mean_norm = np.linalg.norm(mean)
    if mean_norm == 0:
        return np.zeros_like(norms)
    toward_mean = directions.T @ (mean / mean_norm)
    inverse = norms.min() / norms
    level = ((toward_mean + c) / inverse).min()
    if len(norms) < tasks or _hull_contains_zero(directions):
        # No update serves every task, so the best level is at most 0: is it 0 within the ball?
        directions = np.vstack([directions, _SOFTNESS * np.eye(len(norms))])
        u = nearest_combination(directions, -toward_mean)
        harmless = u / (1 + toward_mean @ u)
        length = np.linalg.norm(directions @ harmless)
        if length <= c * (1 + _TOLERANCE / 10):
            return harmless * mean_norm / norms
        level = min(level, (toward_mean @ harmless + c * length) / (inverse @ harmless))
    return _multipliers(directions, toward_mean, inverse, c, level) * mean_norm / norms


def _hull_contains_zero(directions: Array) -> bool:
    # Full rank says no at once; `unit_root` puts the smallest singular value first.
    if directions[0].any():
        return False
    u = nearest_combination(directions, np.ones(len(directions)))
    return bool(np.linalg.norm(directions @ u) <= _RESOLUTION * u.sum())


def _multipliers(directions: Array, toward_mean: Array, inverse: Array, c: float, level: float) -> Array:
    """Newton's method from an upper bound of the best level: y >= 0 with x = directions y and |x| = c."""
    for _ in range(_MAX_ITERATIONS):
        u = nearest_combination(directions, level * inverse - toward_mean)
        x = directions @ u
        length = np.linalg.norm(x)
        bound = (toward_mean @ u + c * length) / (inverse @ u)
        if bound >= level - 1e-15 * (abs(level) + 1 + c):
            break
        level = bound
    multipliers: Array = c * u / length
    gain = toward_mean + directions.T @ (directions @ multipliers) - bound * inverse
    scale = 1 + c + abs(bound) * inverse + _RESOLUTION * multipliers.sum()
    residual = max(np.max(-gain / scale), np.max(np.abs(gain) * multipliers / (multipliers.max() * scale)))
    if not residual <= _TOLERANCE:
        raise RuntimeError(f"cagrad: the dual was solved to a relative residual of {residual:.1e} only, above {_TOLERANCE:.0e}")
    return multipliers
