"""Independent component alignment (Aligned-MTL).

Senushkin, Patakin, Kuznetsov & Konushin, "Independent Component Alignment for Multi-Task Learning",
CVPR 2023, algorithm 1.

    J = U Σ V'  ->  σ U V', the nearest Jacobian with equal singular values
    update p'(σ U V') = (σ U Σ⁻¹ U'p)'J

The sums run over the nonzero singular values. p_i = 1 unless a preference is given. σ is the
smallest singular value (`scale_mode` ``"min"``), or the root of the median or the mean of their
squares (``"median"``, ``"rmse"``).

Needs the Gramian. No state, no randomness. Sum scale, as in the published code and LibMTL; TorchJD
takes the mean. Weights can be negative.

The published code and TorchJD decompose the Gramian and drop eigenvalues below the largest times K
times the machine's epsilon. Gradients 1e-8 times shorter than others vanish there, and the smallest
singular value changes.

We decompose a K x K root of the Gramian instead. Where singular values differ much, Jacobi
rotations (LAPACK's ``gejsv``) keep the digits of the small ones. Directions count as dependent
below 1e-6, which is more than rounding to float32 leaves of dependent gradients.
"""

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import torch
from scipy.linalg.lapack import dgejsv
from torch import Tensor

from recon.methods.base.kinds import GramianMethod
from recon.methods.base.per_task import PerTaskMethod
from recon.methods.base.preference import check_preference, preference_among
from recon.methods.base.registry import register_method
from recon.methods.solvers.gramian import Array, unit_factor
from recon.methods.solvers.resolution import resolution

# Singular values of unit vectors below this count as rounding of the gradients.
_DEPENDENT = 1e-6
# A plain decomposition loses half of the digits of singular values below this, relative to the
# largest.
_GRADED = 1e-6

ScaleMode = Literal["min", "median", "rmse"]


@register_method("aligned_mtl")
class AlignedMTL(PerTaskMethod, GramianMethod):
    """The sum of the task gradients after they are made orthogonal and equally long.

    Of all such gradients, the ones nearest to the original are taken.

    Args:
        scale_mode: The common singular value: the smallest (``"min"``), or the root of the lower
            median or of the mean of the squares (``"median"``, ``"rmse"``).
        preference: A finite number >= 0 for each task, in task order; ones by default.

    Example:
        >>> import torch
        >>> from recon import create_method
        >>> method = create_method("aligned_mtl")
        >>> method.combine(torch.tensor([[4.0, 0.0], [-1.0, 2.0]]))
        tensor([1.5810, 2.2134])
    """

    scale = "sum"

    def __init__(self, scale_mode: ScaleMode = "min", preference: Sequence[float] | None = None) -> None:
        super().__init__()
        if scale_mode not in get_args(ScaleMode):
            raise ValueError(f"aligned_mtl: scale_mode must be one of {get_args(ScaleMode)}, got {scale_mode!r}")
        self.scale_mode = scale_mode
        self.preference = check_preference("aligned_mtl", preference)

    def weights(self, gramian: Tensor, losses: Tensor | None = None) -> Tensor:
        """Weights of the task gradients, (K,); zero for zero gradients.

        Raises:
            RuntimeError: The Jacobi rotations did not converge.
        """
        products: Array = gramian.numpy()
        preference = preference_among(len(products), self.preference, default=1.0)
        weights = np.zeros(len(products))
        nonzero = products.diagonal() > 0
        if nonzero.any():
            norms, directions = unit_factor(products[nonzero][:, nonzero])
            independent = np.linalg.norm(directions, axis=1) > max(_DEPENDENT, resolution())
            columns = np.where(independent[:, None], directions * norms, 0.0)
            values, vectors = _singular_values(columns, rank=int(independent.sum()))
            weights[nonzero] = vectors @ (self._common(values) / values * (preference[nonzero] @ vectors))
        return torch.from_numpy(weights)

    def weights_of_pairs(self, norms: Array, cosines: Array, losses: Tensor | None = None) -> Array:
        """Weights of two tasks, (N, 2): σ G^(-1/2) p, by the closed form of the root."""
        preference = preference_among(2, self.preference, default=1.0)
        longest = norms.max(axis=1, keepdims=True)
        relative = norms / longest
        squares, product = relative**2, relative.prod(axis=1)
        root = product * np.sqrt(1 - cosines**2)  # of the determinant
        trace = squares.sum(axis=1)
        largest = (trace + np.sqrt((squares[:, 0] - squares[:, 1]) ** 2 + 4 * (product * cosines) ** 2)) / 2
        common = np.sqrt(trace / 2) if self.scale_mode == "rmse" else root / np.sqrt(largest)
        mixed = (squares[:, ::-1] + root[:, None]) * preference - (product * cosines)[:, None] * preference[::-1]
        weights: Array = (common / root / np.sqrt(trace + 2 * root))[:, None] * mixed
        return weights

    def _common(self, values: Array) -> float:
        """The common singular value, from the singular values in descending order."""
        if self.scale_mode == "min":
            return float(values[-1])
        if self.scale_mode == "median":
            return float(values[len(values) // 2])
        return float(values[0] * np.sqrt(np.mean((values / values[0]) ** 2)))


def _singular_values(columns: Array, rank: int) -> tuple[Array, Array]:
    """The largest singular values and their right singular vectors, of a square matrix.

    Returns:
        (rank,) values in descending order, and (K, rank) vectors.
    """
    values: Array
    _, values, transposed = np.linalg.svd(columns)
    if values[-1] > _GRADED * values[0]:
        return values, transposed.T
    values, _, vectors, work, _, failed = dgejsv(columns, joba=0, jobu=3, jobv=0, jobr=0)
    if failed:
        raise RuntimeError(f"aligned_mtl: singular values of the task gradients did not converge (gejsv: {failed})")
    return values[:rank] * (work[0] / work[1]), vectors[:, :rank]
