"""Impartial multi-task learning, gradients only (IMTL-G).

Liu, Li, Kuang, Xue, Chen, Yang, Liao & Zhang, "Towards Impartial Multi-task Learning", ICLR 2021,
eq. 6.

    d = Σ a_i g_i  with  d·g_1/|g_1| = ... = d·g_K/|g_K|  and  Σ a_i = 1
    so  a_i = b_i / |g_i| up to a factor,  where C b = 1 for the cosines C of the task gradients

Needs the Gramian. No state, no randomness. The weights sum to one, and some can be negative (mean
scale). For three tasks or more of very unequal norms, the sum can be negative before it is made
one. The update then leads away from every task, as published.

The published code solves a (K - 1, K - 1) system in the gradients' own units, and TorchJD takes a
pseudoinverse of it. Cosines lose no digits to unequal norms.

Where dependent gradients leave only d = 0 with equal products, as two opposed ones do, the update
is zero; a pseudoinverse gives a least-squares direction with unequal products. If the weights that
solve the equations sum to zero, none sum to one, and the update is zero. Zero gradients are left
out.
"""

import numpy as np
import torch
from scipy.linalg.lapack import dposv
from torch import Tensor

from recon.methods.base.kinds import GramianMethod
from recon.methods.base.registry import register_method
from recon.methods.solvers.gramian import Array, norms_and_cosines
from recon.methods.solvers.resolution import resolution

# Eigenvalues of cosines, relative to the largest and per task, that rounding alone can produce.
_ROUNDING = 1e-15
# Smaller components along such an eigenvector, and smaller sums of weights, are rounding.
_RESOLUTION = 1e-7
_CANCELLED = 1e-12
# Longer solutions come from cosines that are singular to within a few digits.
_LONG = 1e4


@register_method("imtl_g")
class IMTLG(GramianMethod):
    """The combination of task gradients that has equal products with their directions.

    Example:
        >>> import torch
        >>> from recon import create_method
        >>> method = create_method("imtl_g")
        >>> method.combine(torch.tensor([[4.0, 0.0], [-1.0, 2.0]]))
        tensor([0.7929, 1.2829])
    """

    def weights(self, gramian: Tensor, losses: Tensor | None = None) -> Tensor:
        """Weights that sum to one, (K,), or zeros where no such weights exist."""
        products: Array = gramian.numpy()
        weights = np.zeros(len(products))
        nonzero = products.diagonal() > 0
        if nonzero.any():
            norms, cosines = norms_and_cosines(products[nonzero][:, nonzero])
            shares = _equal_products(cosines) * (norms.min() / norms)
            if abs(shares.sum()) > _CANCELLED * np.abs(shares).sum():
                weights[nonzero] = shares / shares.sum()
        return torch.from_numpy(weights)

    def weights_of_pairs(self, norms: Array, cosines: Array, losses: Tensor | None = None) -> Array:
        """Weights of two tasks, (N, 2): inverse to the norms, whatever the cosine."""
        inverse = norms.min(axis=1, keepdims=True) / norms
        weights: Array = inverse / inverse.sum(axis=1, keepdims=True)
        return weights


def _equal_products(cosines: Array) -> Array:
    """The shortest b with ``cosines b = 1``; zeros if there is none."""
    b: Array
    _, b, failed = dposv(cosines, np.ones(len(cosines)))
    if failed or np.abs(b).max() > min(_LONG, 0.1 / resolution() ** 2):
        return _shortest_equal_products(cosines)
    return b


def _shortest_equal_products(cosines: Array) -> Array:
    """The same for cosines that are singular, or nearly so."""
    eigenvalues, vectors = np.linalg.eigh(cosines)
    sums = vectors.sum(axis=0)
    null = eigenvalues <= max(_ROUNDING * len(cosines), resolution() ** 2) * eigenvalues[-1]
    if (np.abs(sums[null]) > max(_RESOLUTION, resolution())).any():
        return np.zeros(len(cosines))
    b: Array = vectors[:, ~null] @ (sums[~null] / eigenvalues[~null])
    return b
