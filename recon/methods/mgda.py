"""Multiple-gradient descent (MGDA).

Désidéri, "Multiple-gradient descent algorithm (MGDA) for multiobjective optimization", 2012; Sener
& Koltun, "Multi-Task Learning as Multi-Objective Optimization", NeurIPS 2018, eq. 3.

    min_w |J'w|²  over the simplex,   update J'w

Needs the Gramian, and the losses for two of the normalizations. No state, no randomness. The update
is a convex combination of task gradients (mean scale).

The published code iterates Frank-Wolfe to a loose tolerance, and clips the weights of two tasks to
[0.001, 0.999]. We solve the equivalent non-negative least-squares problem exactly: |J'u|² + (1'u -
1)² over u >= 0 is least at a multiple of w. As in the published code, a normalization decides only
the weights, which multiply the original gradients. LibMTL's update weighs the normalised gradients.

Many weights of dependent gradients can give the same shortest combination, and under a
normalization the updates of these weights differ. We take the weights whose sum of squares is least
in units of the normalised gradients, whatever the order of the tasks.
"""

from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from recon.methods.base.kinds import GramianMethod
from recon.methods.base.registry import register_method
from recon.methods.solvers.gramian import Array, least_squares, nearest_combination, unit_root

# Weight of the combination relative to the length of the weights: half of the digits for each.
_STIFFNESS = 1e6

Normalization = Literal["none", "l2", "loss", "loss+"]


@register_method("mgda")
class MGDA(GramianMethod):
    """The shortest vector in the convex hull of the task gradients.

    Args:
        normalization: Divisor of each gradient before its weight is sought: 1 (``"none"``), its
            norm (``"l2"``), its loss (``"loss"``) or both (``"loss+"``). The last two need positive
            losses.

    Example:
        >>> import torch
        >>> from recon import create_method
        >>> method = create_method("mgda")
        >>> method.combine(torch.tensor([[4.0, 0.0], [-1.0, 2.0]]))
        tensor([0.5517, 1.3793])
    """

    def __init__(self, normalization: Normalization = "none") -> None:
        super().__init__()
        if normalization not in get_args(Normalization):
            raise ValueError(f"mgda: normalization must be one of {get_args(Normalization)}, got {normalization!r}")
        self.normalization = normalization

    def weights(self, gramian: Tensor, losses: Tensor | None = None) -> Tensor:
        """A point of the simplex, (K,).

        Tasks with a zero gradient, if there are any, share all weight: the update is zero.
        """
        if (left_out := self._left_out(losses)) is not None and losses is not None:
            return self.weights_without(left_out, gramian, losses)
        products = gramian.numpy()
        zero = products.diagonal() == 0
        if zero.any():
            return torch.from_numpy(zero / zero.sum())
        norms, directions = unit_root(products)
        # With u_i = v_i / length_i the columns are unit vectors. Lengths enter only the constraint
        # 1'u = 1.
        inverse = self._inverse_lengths(norms, losses)
        shares = nearest_combination(directions, inverse)
        if self.normalization != "none" and not directions[0].any():
            shares = _least(shares, directions, inverse)
        weights = inverse * shares
        return torch.from_numpy(weights / weights.sum())

    def weights_of_groups(self, gramians: Tensor, losses: Tensor | None = None) -> Tensor:
        """Points of the simplex in each group of layers, (G, K)."""
        if (left_out := self._left_out(losses)) is not None and losses is not None:
            return self.weights_without(left_out, gramians, losses)
        return super().weights_of_groups(gramians, losses)

    def weights_of_pairs(self, norms: Array, cosines: Array, losses: Tensor | None = None) -> Array:
        """Points of the simplex, (N, 2): the shorter gradient, or the foot of the perpendicular."""
        inverse = self._inverse_lengths(norms, losses)
        shares = inverse * np.maximum(inverse - cosines[:, None] * inverse[:, ::-1], 0.0)
        weights: Array = shares / shares.sum(axis=1, keepdims=True)
        return weights

    def _inverse_lengths(self, norms: Array, losses: Tensor | None) -> Array:
        """Inverse lengths of the normalised gradients, (..., K), the largest of them 1."""
        lengths = norms if self.normalization in ("none", "loss") else np.ones_like(norms)
        if losses is not None and self.normalization in ("loss", "loss+"):
            lengths = lengths / losses.numpy()
        inverse: Array = lengths.min(axis=-1, keepdims=True) / lengths
        return inverse

    def _left_out(self, losses: Tensor | None) -> Tensor | None:
        """Whether each task takes no part, since its loss is 0, (K,); ``None`` if all take part."""
        if self.normalization in ("none", "l2"):
            return None
        if losses is None or losses.min() < 0:
            got = "none" if losses is None else losses.tolist()
            raise ValueError(f"mgda: normalization={self.normalization!r} needs positive losses, got {got}")
        return None if losses.all() else losses == 0


def _least(shares: Array, directions: Array, inverse: Array) -> Array:
    """The shortest v >= 0 with the same ``directions @ v`` and ``inverse @ v`` as the shares."""
    kept = np.vstack([directions, inverse])
    stacked = np.vstack([_STIFFNESS * kept, np.eye(len(shares))])
    return least_squares(stacked, np.concatenate([_STIFFNESS * (kept @ shares), np.zeros(len(shares))]))
