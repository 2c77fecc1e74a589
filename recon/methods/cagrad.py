"""Conflict-averse gradient descent (CAGrad).

Liu, Liu, Jin, Stone & Liu, "Conflict-Averse Gradient Descent for Multi-Task Learning", NeurIPS
2021, algorithm 1.

    max_d min_i g_i·d  subject to  |d - g_0| <= c |g_0|,   g_0 = (1/K) Σ g_i
    dual:  min_w g_w·g_0 + c |g_0| |g_w|  over the simplex,  g_w = J'w
    update d = g_0 + c |g_0| g_w / |g_w|

Needs the Gramian. No state, no randomness. The update lies around the mean of the task gradients
(mean scale). `rescale` divides it by 1, 1 + c² or 1 + c. For c < 1 the method converges to a
minimum of the mean loss; c = 0 is the mean itself.

The published code minimises the dual by SLSQP, or by a bounded scalar search for two tasks, and
adds small constants under its roots. We solve the dual to rounding.

Where the dual is least at g_w = 0, the formula for d reads 0/0. Of all d that solve the first
problem we then take the nearest to g_0.
"""

from math import inf, sqrt
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from recon.methods.base.hyperparameters import check_number
from recon.methods.base.kinds import GramianMethod
from recon.methods.base.registry import register_method
from recon.methods.solvers.gramian import Array, hull_contains_zero, unit_root
from recon.methods.solvers.near_mean import best_deviation, harmless_or_best_deviation
from recon.methods.solvers.resolution import resolution

# Inner products in float64 cannot tell a shorter convex combination of unit vectors from zero. Nor
# can they below the resolution of the gradients.
_RESOLUTION = 1e-7


@register_method("cagrad")
class CAGrad(GramianMethod):
    """The update near the mean gradient that serves the worst-served task best.

    Args:
        c: Radius of the ball around the mean gradient, relative to the norm of that gradient;
            finite and >= 0. The paper's guarantee needs c < 1. The default is the published code's.
        rescale: Divisor of the update: 1 (``0``), 1 + c² (``1``, the published code's default) or 1
            + c (``2``).

    Example:
        >>> import torch
        >>> from recon import create_method
        >>> method = create_method("cagrad", c=0.4)
        >>> method.combine(torch.tensor([[4.0, 0.0], [-1.0, 2.0]]))
        tensor([1.0151, 1.4181])
    """

    def __init__(self, c: float = 0.5, rescale: Literal[0, 1, 2] = 1) -> None:
        super().__init__()
        self.c = check_number("cagrad", "c", c, low=0)
        if type(rescale) is not int or rescale not in (0, 1, 2):
            raise ValueError(f"cagrad: rescale must be 0, 1 or 2, got {rescale!r}")
        self.rescale: Literal[0, 1, 2] = rescale

    def weights(self, gramian: Tensor, losses: Tensor | None = None) -> Tensor:
        """Weights of the task gradients, (K,); 1 for a single task, which has no conflict.

        Raises:
            RuntimeError: The relative KKT residual of the dual stayed above 1e-8.
        """
        products: Array = gramian.numpy()
        tasks = len(products)
        if tasks == 1:
            return torch.ones(1, dtype=torch.float64)
        weights = np.full(tasks, 1 / tasks)
        nonzero = products.diagonal() > 0
        if self.c > 0 and nonzero.any():
            weights[nonzero] += _deviation(products[nonzero][:, nonzero], self.c, tasks)
        return torch.from_numpy(weights / self._divisor())

    def weights_of_pairs(self, norms: Array, cosines: Array, losses: Tensor | None = None) -> Array:
        """Weights of two tasks, (N, 2)."""
        return (1 / 2 + _deviations_of_pairs(norms, cosines, self.c)) / self._divisor()

    def _divisor(self) -> float:
        return (1.0, 1 + self.c**2, 1 + self.c)[self.rescale]


def _deviation(gramian: Array, c: float, tasks: int) -> Array:
    """Weights z >= 0 of the nonzero task gradients such that the update is g_0 + J'z.

    The problem is posed in the directions of the gradients and in units of |g_0|, so it has no
    scale.
    """
    norms, directions = unit_root(gramian)
    mean = directions @ norms / tasks
    mean_norm = sqrt(mean @ mean)
    if mean_norm == 0:
        return np.zeros_like(norms)
    toward_mean = directions.T @ (mean / mean_norm)
    inverse = norms.min() / norms
    if len(norms) < tasks or hull_contains_zero(directions, max(_RESOLUTION, resolution())):
        multipliers = harmless_or_best_deviation(directions, toward_mean, inverse, c, "cagrad")
    else:
        multipliers = best_deviation(directions, toward_mean, inverse, c, inf, "cagrad")
    return multipliers * mean_norm / norms


def _deviations_of_pairs(norms: Array, cosines: Array, c: float) -> Array:
    """As :func:`_deviation`, (N, 2), for many pairs of tasks whose gradients are not parallel.

    For the longer gradient's share w in g_w, |g_w|² = A (w + B/A)² + E and g_w·g_0 = s w + const,
    so that the slope of the dual vanishes where A t = -s |g_w| / (c |g_0|) for t = w + B/A. Lengths
    are in units of the longer gradient.
    """
    longest = norms.max(axis=1)
    ratio = norms.min(axis=1) / longest
    squares = 1 + ratio**2
    difference = squares - 2 * ratio * cosines  # A
    lowest = ratio**2 * (1 - cosines**2) / difference  # E
    slope = (1 - ratio**2) / 2
    # A (c |g_0|)² - s²; where it is not positive, the dual falls towards the shorter gradient.
    excess = ((c**2 - 1) * squares**2 + 4 * ratio**2 * (1 - (c * cosines) ** 2)) / 4
    inside = excess > 0
    t = -slope * np.sqrt(lowest / difference / np.where(inside, excess, 1.0))
    middle = ratio * (cosines - ratio) / difference  # B/A
    share = np.where(inside, np.clip(t - middle, 0.0, 1.0), 0.0)
    length = np.sqrt(difference * (share + middle) ** 2 + lowest)
    radius = c * np.sqrt(squares + 2 * ratio * cosines) / 2
    of_longer, of_shorter = radius * share / length, radius * (1 - share) / length
    first_is_longer = norms[:, 0] == longest
    deviations: Array = np.where(
        np.stack([first_is_longer, ~first_is_longer], axis=1), of_longer[:, None], of_shorter[:, None]
    )
    return deviations
