"""Independent component alignment (Aligned-MTL).

Senushkin, Patakin, Kuznetsov & Konushin, "Independent Component Alignment for Multi-Task Learning", CVPR 2023,
algorithm 1.

    J = U Σ V'  ->  the nearest Jacobian with all singular values alike,  σ U V',   update p'(σ U V') = (σ U Σ⁻¹ U'p)'J

with p_i = 1 unless preferred otherwise, over the singular values that are not zero; σ is the smallest of them
(`scale_mode` ``"min"``), or the root of the median or of the mean of their squares (``"median"``, ``"rmse"``).

Needs the Gramian. No state, no randomness. Sum scale, as the published code, LibMTL (TorchJD: the mean). Weights can be
negative.

Published code and TorchJD take the eigenvalues of the Gramian and drop those below the largest times K times the
machine's epsilon: gradients 1e-8 times shorter than others vanish, and the smallest singular value is then another.
We decompose a K x K root of the Gramian instead, by Jacobi rotations (LAPACK's ``gejsv``) where singular values differ
much, which keeps the digits of small ones beside large. Rank is lost only where directions depend on each other to
1e-6, which is more than what rounding to float32 leaves of gradients that do.
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

# Singular values of unit vectors up to here are taken for rounding of the gradients themselves.
_DEPENDENT = 1e-6
# Smaller singular values, relative to the largest, have lost half of their digits in a plain decomposition.
_GRADED = 1e-6

ScaleMode = Literal["min", "median", "rmse"]


@register_method("aligned_mtl")
class AlignedMTL(PerTaskMethod, GramianMethod):
    """The sum of task gradients that have been made orthogonal and equally long, as near to the original as can be.

    Args:
        scale_mode: What the singular values are made: the smallest (``"min"``), or the root of the lower median or of
            the mean of their squares (``"median"``, ``"rmse"``).
        preference: A finite number >= 0 for each task, in task order; ones if left out.
    """

    scale = "sum"

    def __init__(self, scale_mode: ScaleMode = "min", preference: Sequence[float] | None = None) -> None:
        super().__init__()
        if scale_mode not in get_args(ScaleMode):
            raise ValueError(f"aligned_mtl: scale_mode must be one of {get_args(ScaleMode)}, got {scale_mode!r}")
        self.scale_mode = scale_mode
        self.preference = check_preference("aligned_mtl", preference)

    def weights(self, gramian: Tensor, losses: Tensor | None = None) -> Tensor:
        """Weights, (K,); zero for zero gradients.

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

    def _common(self, values: Array) -> float:
        """The singular value that all are made, from the descending ones."""
        if self.scale_mode == "min":
            return float(values[-1])
        if self.scale_mode == "median":
            return float(values[len(values) // 2])
        return float(values[0] * np.sqrt(np.mean((values / values[0]) ** 2)))


def _singular_values(columns: Array, rank: int) -> tuple[Array, Array]:
    """The largest singular values, descending, and right singular vectors of a square matrix: (rank,) and (K, rank)."""
    values: Array
    _, values, transposed = np.linalg.svd(columns)
    if values[-1] > _GRADED * values[0]:
        return values, transposed.T
    values, _, vectors, work, _, failed = dgejsv(columns, joba=0, jobu=3, jobv=0, jobr=0)
    if failed:
        raise RuntimeError(f"aligned_mtl: singular values of the task gradients did not converge (gejsv: {failed})")
    return values[:rank] * (work[0] / work[1]), vectors[:, :rank]
