"""Projection of the mean gradient onto the dual cone (DualProj; gradient episodic memory).

Lopez-Paz & Ranzato, "Gradient Episodic Memory for Continual Learning", NeurIPS 2017, eq. 11; as a
multi-task method in Quinton & Rey, "Jacobian Descent for Multi-Objective Optimization", 2024
(arXiv:2406.16232).

    update: the nearest d to Σ p_i g_i with g_j·d >= 0 for all j;   p_i = 1/K by default

Needs the Gramian. No state, no randomness. The update is the projected mean of the task gradients
(mean scale). Zero gradients constrain nothing.

Gradient episodic memory projects the gradient of the present task against the gradients of stored
examples. TorchJD normalises the Gramian and adds 1e-4 to its diagonal; we project exactly.
"""

from math import sqrt

import numpy as np

from recon.methods.base.dual_cone_method import DualConeMethod
from recon.methods.base.registry import register_method
from recon.methods.solvers.dual_cone import lift_into_dual_cone
from recon.methods.solvers.gramian import Array, softened_square


@register_method("dualproj")
class DualProj(DualConeMethod):
    """The update nearest to the mean of the task gradients that harms no task.

    Args:
        preference: A finite number >= 0 for each task, in task order; 1/K each by default.

    Example:
        >>> import torch
        >>> from recon import create_method
        >>> method = create_method("dualproj")
        >>> method.combine(torch.tensor([[4.0, 0.0], [-1.0, 2.0]]))
        tensor([1.5000, 1.0000])
    """

    def lift(self, norms: Array, directions: Array, preference: Array) -> Array:
        mean = directions @ (preference * norms)
        length = sqrt(mean @ mean)
        if length == 0:
            return np.zeros_like(norms)
        return lift_into_dual_cone(directions, mean / length) * (length / norms)

    def lift_pairs(self, norms: Array, cosines: Array, preference: Array) -> Array:
        # At most one of two gradients opposes a mean of both.
        square, lengths = softened_square(), preference * norms
        products = square * lengths + cosines[:, None] * lengths[:, ::-1]
        lifted: Array = np.maximum(-products, 0.0) / square / norms
        return lifted
