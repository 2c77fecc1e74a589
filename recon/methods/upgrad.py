"""Unconflicting projection of gradients (UPGrad).

Quinton & Rey, "Jacobian Descent for Multi-Objective Optimization", 2024 (arXiv:2406.16232), definition 1.

    update Σ p_i π(g_i),   π(x) = the nearest d to x with g_j·d >= 0 for all j,   p_i = 1/K unless preferred otherwise

Needs the Gramian. No state, no randomness. A mean of projected task gradients (mean scale). Zero gradients constrain
nothing.

TorchJD normalises the Gramian, adds 1e-4 to its diagonal and solves K quadratic programs; we solve them exactly, in
units of each gradient and all at once (see ``dual_cone``), so neither conflict nor unequal norms cost digits.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from recon.methods.base.kinds import GramianMethod
from recon.methods.base.per_task import PerTaskMethod
from recon.methods.base.preference import check_preference, preference_among
from recon.methods.base.registry import register_method
from recon.methods.solvers.dual_cone import lifts_into_dual_cone
from recon.methods.solvers.gramian import Array, softened_factor


@register_method("upgrad")
class UPGrad(PerTaskMethod, GramianMethod):
    """The mean of the task gradients, each projected to where it harms no task.

    Args:
        preference: A finite number >= 0 for each task, in task order; 1/K if left out.
    """

    def __init__(self, preference: Sequence[float] | None = None) -> None:
        super().__init__()
        self.preference = check_preference("upgrad", preference)

    def weights(self, gramian: Tensor, losses: Tensor | None = None) -> Tensor:
        """Weights of the original task gradients in the mean of the projected ones, (K,), none below its preference."""
        products: Array = gramian.numpy()
        weights = preference_among(len(products), self.preference, default=1 / len(products))
        nonzero = products.diagonal() > 0
        if nonzero.any():
            norms, directions = softened_factor(products[nonzero][:, nonzero])
            lifts = lifts_into_dual_cone(directions, directions)
            weights[nonzero] += lifts @ (weights[nonzero] * norms) / norms
        return torch.from_numpy(weights)
