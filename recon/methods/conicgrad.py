"""ConicGrad: the update in a cone around the mean gradient that serves the worst task best.

Hassanpour, Janjua, Zhang, Lavasani, Zhang, Zhou & Gao, "Fantastic Multi-Task Gradient Updates and
How to Find Them In a Cone", 2025 (arXiv:2502.00217).

    max_d min_i g_i·d  subject to  g_0·d >= c |g_0| |d|,  |d| = |g_0|,   g_0 = (1/K) Σ g_i
    update d

Needs the Gramian. No state, no randomness. The update is as long as the mean of the task gradients
(mean scale). c = 1 is the mean itself; for c towards 0 the update gets the direction of ``mgda``.

Among all directions that of ``mgda`` serves the worst task best. If it lies outside the cone, d
lies on the cone's surface. It is then parallel to the best g_0 + x with x at a right angle to g_0
and |x| <= |g_0| tan θ, cos θ = c. This is the problem of ``cagrad``, and solved like it.

If no direction of the cone gains on every task, we take the g_0 + x whose worst gain is best. Of
those that harm no task it is the nearest to g_0.

The paper derives d in closed form by duality, and normalises its length. We found no code of the
authors, and solve the problem above to rounding. The length |g_0| and the rule for cones without
gain on every task are ours.
"""

from math import sqrt

import numpy as np
import torch
from torch import Tensor

from recon.methods.base.hyperparameters import check_number
from recon.methods.base.kinds import GramianMethod
from recon.methods.base.registry import register_method
from recon.methods.solvers.gramian import Array, hull_contains_zero, nearest_combination, unit_root
from recon.methods.solvers.near_mean import best_deviation, harmless_or_best_deviation, softened
from recon.methods.solvers.pairs import regular_pairs
from recon.methods.solvers.resolution import resolution

# Inner products in float64 cannot tell a shorter convex combination of unit vectors from zero.
_RESOLUTION = 1e-7


@register_method("conicgrad")
class ConicGrad(GramianMethod):
    """The update at a limited angle to the mean gradient that serves the worst task best.

    Args:
        c: Cosine of the largest angle between update and mean gradient, in [0.01, 1]; 1 is the mean
            gradient. The default is ours.

    Example:
        >>> import torch
        >>> from recon import create_method
        >>> jacobian = torch.tensor([[4.0, 0.0], [-1.0, 2.0]])
        >>> create_method("conicgrad", c=0.9).combine(jacobian)
        tensor([0.9141, 1.5538])
        >>> create_method("conicgrad", c=0.5).combine(jacobian)  # the direction of mgda
        tensor([0.6695, 1.6738])
    """

    def __init__(self, c: float = 0.5) -> None:
        super().__init__()
        self.c = check_number("conicgrad", "c", c, low=0.01, high=1)

    def weights(self, gramian: Tensor, losses: Tensor | None = None) -> Tensor:
        """Non-negative weights, (K,).

        Raises:
            RuntimeError: The relative KKT residual of the dual stayed above 1e-8.
        """
        products: Array = gramian.numpy()
        tasks = len(products)
        if tasks == 2 and regular_pairs(products[None])[0].all():
            return torch.from_numpy(self.weights_of_pairs(*regular_pairs(products[None])[1:])[0])
        weights = np.full(tasks, 1 / tasks)
        nonzero = products.diagonal() > 0
        if tasks > 1 and self.c < 1 and nonzero.any():
            weights[nonzero] = _weights(products[nonzero][:, nonzero], self.c, tasks)
        return torch.from_numpy(weights)

    def weights_of_pairs(self, norms: Array, cosines: Array, losses: Tensor | None = None) -> Array:
        """Weights of two tasks, (N, 2)."""
        if self.c == 1:
            return np.full_like(norms, 0.5)
        return _weights_of_pairs(norms, cosines, self.c)


def _weights_of_pairs(norms: Array, cosines: Array, c: float) -> Array:
    """The weights (N, 2) of two tasks whose gradients are not parallel.

    The direction of ``mgda``, or the cone's surface on its side: there the worst task gains most,
    since the gain of one task rises where that of the other falls.
    """
    inverse = norms.min(axis=1, keepdims=True) / norms
    shares = inverse * np.maximum(inverse - cosines[:, None] * inverse[:, ::-1], 0.0)
    shares = shares / shares.sum(axis=1, keepdims=True)  # of the shortest combination
    units = norms / norms.max(axis=1, keepdims=True)
    products = units[:, :, None] * units[:, None, :]
    products[:, 0, 1] *= cosines
    products[:, 1, 0] *= cosines
    turned = (products @ shares[:, :, None])[:, :, 0]
    reach = np.sqrt((shares * turned).sum(axis=1, keepdims=True))
    length = np.sqrt(products.sum(axis=(1, 2))[:, None]) / 2
    along = turned.mean(axis=1, keepdims=True) / length
    outside = along < c * reach
    across = np.sqrt(np.where(outside, reach**2 - along**2, 1.0))
    surface = c / 2 + sqrt(1 - c**2) * (length * shares - along / 2) / across
    weights: Array = np.where(outside, surface, shares * length / reach)
    return weights


def _weights(gramian: Array, c: float, tasks: int) -> Array:
    """Weights of the nonzero task gradients, posed in their directions and in units of |g_0|."""
    norms, directions = unit_root(gramian)
    mean = directions @ norms / tasks
    length = sqrt(mean @ mean)
    if length == 0:
        return np.full_like(norms, 1 / tasks)
    mean /= length
    inverse = norms.min() / norms
    hopeless = len(norms) < tasks or hull_contains_zero(directions, max(_RESOLUTION, resolution()))
    if not hopeless:
        shares = nearest_combination(directions, inverse)
        shortest = directions @ shares
        reach = sqrt(shortest @ shortest)
        if mean @ shortest >= c * reach:
            weights: Array = shares * length / (norms * reach)
            return weights
    toward_mean = directions.T @ mean
    across = directions - np.outer(mean, toward_mean)
    radius = sqrt(1 - c**2) / c
    if hopeless:
        u = harmless_or_best_deviation(across, toward_mean, inverse, radius, "conicgrad")
    else:
        bound = length / norms.min()  # the mean of all gains is that of g_0, whatever the deviation
        u = best_deviation(softened(across), toward_mean, inverse, radius, bound, "conicgrad")
    deviation = across @ u
    # Large weights that cancel add the rounding of the gradients to the length, at most.
    reach = sqrt(deviation @ deviation) + resolution() * u.sum()
    weights = u * length / norms + (1 - u @ toward_mean) / tasks
    return weights / sqrt(1 + reach**2)
