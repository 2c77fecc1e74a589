"""Gradient deconfliction via orthogonal projections onto subspaces (GradOPS).

Zhu, Zhao, Wu, Wang, Deng, Xu & Zheng, "Gradient Deconfliction via Orthogonal Projections onto
Subspaces for Multi-task Learning", WSDM 2025 (arXiv:2503.03438), algorithm 1.

    p_i = g_i without its part in the span of all other task gradients, if it opposes one of these;
          else g_i
    update K Σ w_i p_i,   w_i = R_i^α / Σ_j R_j^α,   R_i = g_i·P / |g_i|²,  P = Σ p_i

No p_i opposes any g_j, and so neither does their sum. R_i tells how well the sum serves task i for
its length: α > 0 favours tasks that gain much, α < 0 the others.

Needs the Gramian: each p_i is a combination of task gradients. No state, no randomness. Sum scale;
the factor K is ours, so that α = 0 gives Σ p_i. Conflict between dependent gradients, as between
two of three in a plane, leaves p_i = 0.

The published algorithm orthonormalises the other gradients by Gram and Schmidt. We solve a least
squares problem in the directions of the gradients, so unequal norms cost no digits. There is no
public code of the authors. Tests hold the projections against algorithm 1; the weights for α other
than 0 are our reading of the paper's text, and are compared with nothing else.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recon.methods.base.hyperparameters import check_number
from recon.methods.base.kinds import GramianMethod
from recon.methods.base.registry import register_method
from recon.methods.solvers.gramian import Array, unit_factor
from recon.methods.solvers.resolution import resolution

# What is left of a unit vector below this length, relative to the weights that cancel, is rounding.
_RESOLUTION = 1e-7


@register_method("gradops")
class GradOPS(GramianMethod):
    """The sum of the task gradients, each without all that it shares with others if it opposes one.

    Args:
        alpha: α, a finite number; 0 is the plain sum.

    Example:
        >>> import torch
        >>> from recon import create_method
        >>> method = create_method("gradops")
        >>> method.combine(torch.tensor([[4.0, 0.0], [-1.0, 2.0]]))
        tensor([3.2000, 3.6000])
    """

    scale = "sum"

    def __init__(self, alpha: float = 0.0) -> None:
        super().__init__()
        self.alpha = check_number("gradops", "alpha", alpha, low=-np.inf)

    def weights(self, gramian: Tensor, losses: Tensor | None = None) -> Tensor:
        """Weights of the original task gradients, (K,)."""
        products: Array = gramian.numpy()
        weights = np.zeros(len(products))
        nonzero = products.diagonal() > 0
        if nonzero.any():
            products = products[nonzero][:, nonzero]
            norms, directions = unit_factor(products)
            projected = _projected(directions, np.flatnonzero(products.min(axis=1) < 0))
            shares = self._shares(norms, directions, projected) * norms
            weights[nonzero] = shares @ projected / norms
        return torch.from_numpy(weights)

    def weights_of_pairs(self, norms: Array, cosines: Array, losses: Tensor | None = None) -> Array:
        """Weights of two tasks, (N, 2)."""
        opposed = np.minimum(cosines, 0.0)[:, None]
        cosines = cosines[:, None]
        gains = 1 - opposed * cosines + (cosines - opposed) * norms[:, ::-1] / norms
        logarithms = self.alpha * np.log(gains)
        shares = np.exp(logarithms - logarithms.max(axis=1, keepdims=True))
        shares = 2 * shares / shares.sum(axis=1, keepdims=True)
        weights: Array = shares - opposed * (shares * norms)[:, ::-1] / norms
        return weights

    def _shares(self, norms: Array, directions: Array, projected: Array) -> Array:
        """The factors of the projected gradients, (K,), with sum K."""
        if self.alpha == 0:
            return np.ones_like(norms)
        gains = (directions.T @ (directions @ (norms @ projected))) / norms
        positive = gains > 0  # the others were projected to nothing
        if not positive.any():
            return np.ones_like(norms)
        logarithms = np.where(positive, self.alpha * np.log(np.where(positive, gains, 1.0)), -np.inf)
        shares: Array = np.exp(logarithms - logarithms.max())
        return len(norms) * shares / shares.sum()


def _projected(directions: Array, opposing: NDArray[np.intp]) -> Array:
    """What is left of each direction, (K, K), a row for each in terms of all of them.

    Args:
        directions: (K, K), unit vectors in columns.
        opposing: Indices of those that are projected.
    """
    projected = np.eye(directions.shape[1])
    tolerance = max(_RESOLUTION, resolution())
    for index in opposing:
        others = np.arange(len(projected)) != index
        z = np.linalg.lstsq(directions[:, others], directions[:, index], rcond=tolerance)[0]
        left = directions[:, index] - directions[:, others] @ z
        if np.sqrt(left @ left) > tolerance * (1 + np.abs(z).sum()):
            projected[index, others] = -z
        else:
            projected[index] = 0.0
    return projected
