"""Multiple-gradient descent (MGDA).

Désidéri, "Multiple-gradient descent algorithm for multiobjective optimization", 2012;
Sener & Koltun, "Multi-Task Learning as Multi-Objective Optimization", NeurIPS 2018, eq. 3.

    min_w |J' w|^2  over the simplex,   update J' w

Needs the Gramian (and the losses for two of the normalizations). No state, no randomness. The update is a convex combination of task
gradients (mean scale).

The published code iterates Frank-Wolfe to a loose tolerance and keeps two-task weights in [0.001, 0.999]; we solve the equivalent
non-negative least-squares problem exactly: min |J' u|^2 + (1'u - 1)^2 over u >= 0 has its minimum at a multiple of the optimal w.
As in the published code, a normalization decides the weights only: they multiply the original gradients.
"""

from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from recon.methods.gramian import Array, nearest_combination, unit_root
from recon.methods.method import GramianMethod
from recon.methods.registry import register_method

Normalization = Literal["none", "l2", "loss", "loss+"]


@register_method("mgda")
class MGDA(GramianMethod):
    """The shortest vector in the convex hull of the task gradients.

    Args:
        normalization: What each gradient is divided by before its weight is sought: nothing, its norm (``"l2"``), its loss (``"loss"``) or
            the product of both (``"loss+"``). The last two need positive losses.
    """

    def __init__(self, normalization: Normalization = "none") -> None:
        super().__init__()
        if normalization not in get_args(Normalization):
            raise ValueError(f"mgda: normalization must be one of {get_args(Normalization)}, got {normalization!r}")
        self.normalization = normalization

    def weights(self, gramian: Tensor, losses: Tensor | None = None) -> Tensor:
        """Point of the simplex, (K,). Gradients that are zero share all the weight: the update is then zero."""
        norms = gramian.diagonal().sqrt().numpy()
        zero = norms == 0
        if zero.any():
            return torch.from_numpy(zero / zero.sum())
        lengths = norms.copy() if self.normalization in ("none", "loss") else np.ones_like(norms)
        if self.normalization in ("loss", "loss+"):
            lengths /= self._positive(losses)
        return torch.from_numpy(_min_norm_weights(gramian.numpy(), lengths))

    def _positive(self, losses: Tensor | None) -> Array:
        if losses is None:
            raise ValueError(f"mgda: normalization={self.normalization!r} needs the losses")
        if losses.min() <= 0:
            raise ValueError(f"mgda: normalization={self.normalization!r} needs positive losses, got {losses.tolist()}")
        values: Array = losses.numpy()
        return values


def _min_norm_weights(gramian: Array, lengths: Array) -> Array:
    """Weights of the shortest convex combination of vectors with the Gramian's angles and the given lengths (all positive)."""
    _, directions = unit_root(gramian)
    # With u_i = v_i / length_i the columns become unit vectors, and only the constraint 1'u = 1 knows the lengths.
    inverse = lengths.min() / lengths
    weights = inverse * nearest_combination(directions, inverse)
    weights /= weights.sum()
    return weights
