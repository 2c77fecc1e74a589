"""Conflict-free inverse gradients (ConFIG).

Liu, Chu & Thuerey, "ConFIG: Towards Conflict-free Training of Physics Informed Neural Networks", ICLR 2025,
equations 2 and 3.

    d = U⁺λ  with the unit task gradients as rows of U,   update (Σ g_i·d/|d|) d/|d|

The direction has the same cosine to all task gradients (for λ = 1), the length is the sum of their projections onto it.
Needs the Gramian: the shortest d = U'c, with c = (UU')⁺λ. No state, no randomness. Sum scale: K equal task gradients
are summed. A zero gradient takes no part.

The published code inverts the K x P matrix by its singular values; the K x K matrix of cosines gives the same weights.
Of linearly dependent gradients (a singular value below 1e-3 of the largest: gradients in float32 do not tell less from
zero) no d has all cosines equal; the pseudoinverse then takes the nearest in the mean square, which can conflict. Where
even that is zero (two opposed gradients) so is the update, while the published code follows rounding.
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

# Of squared singular values relative to the largest, and of squared cosines relative to the wanted ones.
_DEPENDENT = 1e-6


@register_method("config")
class ConFIG(PerTaskMethod, GramianMethod):
    """The direction in which all task gradients have the same cosine.

    Args:
        preference: λ, in which ratio the cosines should stand, a number >= 0 for each task; equal if left out.
    """

    scale = "sum"

    def __init__(self, preference: Sequence[float] | None = None) -> None:
        super().__init__()
        self.preference = check_preference("config", preference)

    def weights(self, gramian: Tensor, losses: Tensor | None = None) -> Tensor:
        """Weights of the task gradients, (K,); zeros if no direction has the wanted cosines even in part."""
        products: Array = gramian.numpy()
        weights = np.zeros(len(products))
        nonzero = products.diagonal() > 0
        if nonzero.any():
            cosines = preference_among(len(products), self.preference, default=1.0)[nonzero]
            weights[nonzero] = _weights(*unit_root(products[nonzero][:, nonzero]), cosines)
        return torch.from_numpy(weights)


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
