"""Unconflicting projection of gradients (UPGrad).

Quinton & Rey, "Jacobian Descent for Multi-Objective Optimization", 2024 (arXiv:2406.16232),
definition 1.

    update Σ p_i π(g_i),   p_i = 1/K by default
    π(x) = the nearest d to x with g_j·d >= 0 for all j

Needs the Gramian. No state, no randomness. The update is a mean of projected task gradients (mean
scale). Zero gradients constrain nothing.

TorchJD normalises the Gramian, adds 1e-4 to its diagonal and solves K quadratic programs. We solve
them exactly, all at once and in units of each gradient (see ``dual_cone``), so neither conflict nor
unequal norms cost digits.
"""

import numpy as np

from recon.methods.base.dual_cone_method import DualConeMethod
from recon.methods.base.registry import register_method
from recon.methods.solvers.dual_cone import lifts_into_dual_cone
from recon.methods.solvers.gramian import Array, softened_square


@register_method("upgrad")
class UPGrad(DualConeMethod):
    """The mean of the task gradients, each projected to where it harms no task.

    Args:
        preference: A finite number >= 0 for each task, in task order; 1/K each by default.

    Example:
        >>> import torch
        >>> from recon import create_method
        >>> method = create_method("upgrad")
        >>> method.combine(torch.tensor([[4.0, 0.0], [-1.0, 2.0]]))
        tensor([1.6000, 1.8000])
    """

    def lift(self, norms: Array, directions: Array, preference: Array) -> Array:
        lifts = lifts_into_dual_cone(directions, directions)
        return lifts @ (preference * norms) / norms

    def lift_pairs(self, norms: Array, cosines: Array, preference: Array) -> Array:
        lifts = np.maximum(-cosines, 0.0) / softened_square()
        lifted: Array = lifts[:, None] * (preference * norms)[:, ::-1] / norms
        return lifted
