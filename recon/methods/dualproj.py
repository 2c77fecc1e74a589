"""Projection of the mean gradient onto the dual cone (DualProj; gradient episodic memory).

Lopez-Paz & Ranzato, "Gradient Episodic Memory for Continual Learning", NeurIPS 2017, eq. 11; as a multi-task method in
Quinton & Rey, "Jacobian Descent for Multi-Objective Optimization", 2024 (arXiv:2406.16232).

    update: the nearest d to Σ p_i g_i with g_j·d >= 0 for all j,   p_i = 1/K unless preferred otherwise

Needs the Gramian. No state, no randomness. The mean of the task gradients, projected (mean scale). Zero gradients
constrain nothing.

Gradient episodic memory projects the gradient of the present task against those of stored examples. TorchJD normalises
the Gramian and adds 1e-4 to its diagonal; we project exactly.
"""

from math import sqrt

import numpy as np

from recon.methods.base.dual_cone_method import DualConeMethod
from recon.methods.base.registry import register_method
from recon.methods.solvers.dual_cone import lift_into_dual_cone
from recon.methods.solvers.gramian import Array


@register_method("dualproj")
class DualProj(DualConeMethod):
    """The update nearest to the mean of the task gradients that harms no task.

    Args:
        preference: A finite number >= 0 for each task, in task order; 1/K if left out.
    """

    def lift(self, norms: Array, directions: Array, preference: Array) -> Array:
        mean = directions @ (preference * norms)
        length = sqrt(mean @ mean)
        if length == 0:
            return np.zeros_like(norms)
        return lift_into_dual_cone(directions, mean / length) * (length / norms)
