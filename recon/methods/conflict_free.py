"""Conflict-free inverse gradients (ConFIG).

Liu, Chu & Thuerey, "ConFIG: Towards Conflict-free Training of Physics Informed Neural Networks",
ICLR 2025, equations 2 and 3.

    d = U⁺λ  with the unit task gradients as rows of U,   update (Σ g_i·d/|d|) d/|d|

For λ = 1 the direction has the same cosine with every task gradient. Its length is the sum of the
gradients' projections onto it.

Needs the Gramian: the shortest d is U'c with c = (UU')⁺λ. No state, no randomness. Sum scale: K
equal task gradients are summed. Zero gradients take no part.

The published code inverts the K x P matrix by its singular values; the K x K matrix of cosines
gives the same weights. Gradients count as dependent below 1e-3 of the largest singular value, which
float32 cannot tell from zero.

For dependent gradients no d may have equal cosines. The pseudoinverse then takes the nearest in the
mean square, which can conflict. Where that is zero too, as for two opposed gradients, the update is
zero; the published code follows rounding there.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from recon.methods.base.kinds import GramianMethod
from recon.methods.base.per_task import PerTaskMethod
from recon.methods.base.preference import check_preference, preference_among
from recon.methods.base.registry import register_method
from recon.methods.solvers.gramian import Array, unit_root
from recon.methods.solvers.resolution import resolution

# Bound of squared singular values relative to the largest, and of squared cosines relative to the
# wanted ones.
_DEPENDENT = 1e-6


@register_method("config")
class ConFIG(PerTaskMethod, GramianMethod):
    """The direction that has the same cosine with every task gradient.

    Args:
        preference: λ, the ratio of the cosines: a number >= 0 for each task; equal by default.

    Example:
        >>> import torch
        >>> from recon import create_method
        >>> method = create_method("config")
        >>> method.combine(torch.tensor([[4.0, 0.0], [-1.0, 2.0]]))
        tensor([1.7236, 2.7889])
    """

    scale = "sum"

    def __init__(self, preference: Sequence[float] | None = None) -> None:
        super().__init__()
        self.preference = check_preference("config", preference)

    def weights(self, gramian: Tensor, losses: Tensor | None = None) -> Tensor:
        """Weights of the task gradients, (K,); zeros if no direction fits the wanted cosines."""
        products: Array = gramian.numpy()
        weights = np.zeros(len(products))
        nonzero = products.diagonal() > 0
        if nonzero.any():
            cosines = preference_among(len(products), self.preference, default=1.0)[nonzero]
            weights[nonzero] = _weights(*unit_root(products[nonzero][:, nonzero]), cosines)
        return torch.from_numpy(weights)

    def weights_of_pairs(self, norms: Array, cosines: Array, losses: Tensor | None = None) -> Array:
        """Weights of two tasks, (N, 2)."""
        wanted = preference_among(2, self.preference, default=1.0)
        combination = (wanted - cosines[:, None] * wanted[::-1]) / (1 - cosines**2)[:, None]
        gain = norms @ wanted / (combination @ wanted)
        weights: Array = gain[:, None] * combination / norms
        return weights


def _weights(norms: Array, directions: Array, cosines: Array) -> Array:
    eigenvalues = (directions**2).sum(axis=1)  # the rows are orthogonal
    kept = eigenvalues > max(_DEPENDENT, resolution() ** 2) * eigenvalues[-1]
    rows, eigenvalues = directions[kept], eigenvalues[kept]
    direction = rows @ cosines / eigenvalues
    reached = rows.T @ direction
    if reached @ reached <= _DEPENDENT * (cosines @ cosines):
        return np.zeros_like(norms)
    combination: Array = rows.T @ (direction / eigenvalues)
    return (norms @ reached) / (direction @ direction) * combination / norms
