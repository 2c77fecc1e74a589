"""Projection of the mean gradient onto the dual cone (DualProj; gradient episodic memory).

Lopez-Paz & Ranzato, "Gradient Episodic Memory for Continual Learning", NeurIPS 2017, eq. 11; as a multi-task method in
Quinton & Rey, "Jacobian Descent for Multi-Objective Optimization", 2024 (arXiv:2406.16232).

    update: the nearest d to Σ p_i g_i with g_j·d >= 0 for all j,   p_i = 1/K unless preferred otherwise

Needs the Gramian. No state, no randomness. The mean of the task gradients, projected (mean scale). Zero gradients
constrain nothing.

Gradient episodic memory projects the gradient of the present task against those of stored examples. TorchJD normalises
the Gramian and adds 1e-4 to its diagonal; we project exactly.
"""

from collections.abc import Sequence
from math import sqrt

import torch
from torch import Tensor

from recon.methods.base.kinds import GramianMethod
from recon.methods.base.per_task import PerTaskMethod
from recon.methods.base.preference import check_preference, preference_among
from recon.methods.base.registry import register_method
from recon.methods.solvers.dual_cone import lift_into_dual_cone
from recon.methods.solvers.gramian import Array, softened_factor


@register_method("dualproj")
class DualProj(PerTaskMethod, GramianMethod):
    """The update nearest to the mean of the task gradients that harms no task.

    Args:
        preference: A finite number >= 0 for each task, in task order; 1/K if left out.
    """

    def __init__(self, preference: Sequence[float] | None = None) -> None:
        super().__init__()
        self.preference = check_preference("dualproj", preference)

    def weights(self, gramian: Tensor, losses: Tensor | None = None) -> Tensor:
        """Weights, (K,), none below its preference."""
        products: Array = gramian.numpy()
        weights = preference_among(len(products), self.preference, default=1 / len(products))
        nonzero = products.diagonal() > 0
        if nonzero.any():
            norms, directions = softened_factor(products[nonzero][:, nonzero])
            mean = directions @ (weights[nonzero] * norms)
            length = sqrt(mean @ mean)
            if length > 0:
                weights[nonzero] += lift_into_dual_cone(directions, mean / length) * (length / norms)
        return torch.from_numpy(weights)
