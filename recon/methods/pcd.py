"""Priority-constrained descent (PCD).

Varam & AlHajri, "Not All Objectives Are Born Equal: Priority-Constrained Descent for Hierarchical
Multi-Objective Optimization", TMLR 2026 (arXiv:2606.29521), algorithm 1.

    g̃_i = g_i / sqrt(v_i),   v_i the bias-corrected moving average of |g_i|²
    min_d |d - g̃_1|²  subject to  g̃_j·d >= τ |g̃_j|²  for every auxiliary task j
    update |g_1| d / |d|

Task 1 is the primary task. The update follows its gradient as closely as possible, while each other
task gets at least the part τ of the progress that its own normalised gradient would bring.

Needs the Gramian. The state is the moving averages. No randomness. The update is as long as the
primary gradient (mean scale). It is zero where that gradient is, also in a step that lacks the
primary task but has several others. Where no d meets all constraints, as for two opposed auxiliary
gradients, the update is the primary gradient.

The authors' code tries all sets of active constraints, and TorchJD goes from set to set by Goldfarb
and Idnani's method; both add ε = 1e-8 to v. We solve the equivalent non-negative least-squares
problem in the directions of the gradients, without ε.
"""

from math import sqrt

import numpy as np
import torch
from torch import Tensor

from recon.methods.base.hyperparameters import check_below, check_number
from recon.methods.base.kinds import GramianMethod
from recon.methods.base.primary_task import PrimaryTaskMethod
from recon.methods.base.registry import register_method
from recon.methods.solvers.gramian import Array, nearest_combination, unit_factor
from recon.methods.solvers.pairs import regular_pairs
from recon.methods.solvers.resolution import resolution

# Shorter combinations of unit vectors are rounding, and constraints that only longer multipliers
# than the inverse would meet contradict each other.
_RESOLUTION = 1e-7


@register_method("pcd")
class PCD(PrimaryTaskMethod, GramianMethod):
    """The update nearest to the primary gradient that serves each other task to some degree.

    Args:
        tau: τ, the least part of their own progress that auxiliary tasks get, in [0, 1]. The
            default is the published code's.
        beta: Share of the past in the moving averages, in [0, 1). The default is the published
            code's.
        primary: Index of the primary task, in task order.

    Example:
        >>> import torch
        >>> from recon import create_method
        >>> method = create_method("pcd")
        >>> method.combine(torch.tensor([[4.0, 0.0], [-1.0, 2.0]]))
        tensor([3.5368, 1.8684])
    """

    squares: Tensor
    steps: Tensor

    def __init__(self, tau: float = 0.02, beta: float = 0.999, primary: int = 0) -> None:
        super().__init__(primary)
        self.tau = check_number("pcd", "tau", tau, low=0, high=1)
        self.beta = check_below("pcd", "beta", beta, low=0, high=1)

    def make_state(self, tasks: int) -> None:
        super().make_state(tasks)
        self.register_buffer("squares", torch.zeros(tasks, dtype=torch.float64))
        self.register_buffer("steps", torch.zeros(tasks, dtype=torch.int64))

    def weights(self, gramian: Tensor, losses: Tensor | None = None) -> Tensor:
        """Weights of the task gradients, (K,)."""
        sizes = self._sizes(gramian.diagonal()).numpy()
        return torch.from_numpy(self._weights(gramian.numpy(), sizes))

    def weights_of_groups(self, gramians: Tensor, losses: Tensor | None = None) -> Tensor:
        """The same in each group of layers, (G, K); two tasks have a formula."""
        products: Array = gramians.numpy()
        sizes: Array = self._sizes(gramians.diagonal(dim1=1, dim2=2)).numpy()
        weights, served = np.zeros_like(sizes), np.zeros(len(sizes), dtype=bool)
        primary = self.primary_row()
        if products.shape[1] == 2 and primary is not None:
            served, norms, cosines = regular_pairs(products)
            weights[served] = _weights_of_pairs(primary, norms, cosines, norms / sizes[served], self.tau)
        for group in np.flatnonzero(~served):
            weights[group] = self._weights(products[group], sizes[group])
        return torch.from_numpy(weights)

    def _weights(self, products: Array, sizes: Array) -> Array:
        weights, primary = np.zeros(len(products)), self.primary_row()
        nonzero = products.diagonal() > 0
        if primary is not None and nonzero[primary]:
            norms, directions = unit_factor(products[nonzero][:, nonzero])
            first = int(nonzero[:primary].sum())
            combination = _nearest_to(first, directions, norms / sizes[nonzero], self.tau)
            length = np.sqrt(((directions @ combination) ** 2).sum())
            if length > max(_RESOLUTION, resolution()) * np.abs(combination).sum():
                weights[nonzero] = combination / length * (norms[first] / norms)
        return weights

    def _sizes(self, squares: Tensor) -> Tensor:
        """The usual norms of the task gradients, (K,), after the present ones."""
        self.steps = self.steps + 1
        past = self.squares.to(squares)
        moved = past + (1 - self.beta) * (squares - past)
        self.squares = moved.to(self.squares)
        return (moved / (1 - self.beta ** self.steps.to(squares))).sqrt()


def _nearest_to(primary: int, directions: Array, lengths: Array, tau: float) -> Array:
    """The vector nearest to the primary one that meets the constraints of the others.

    Args:
        primary: Index of the primary vector.
        directions: (K, K), unit vectors in columns.
        lengths: (K,), their lengths.
        tau: Least product with the others, in parts of their squared lengths.

    Returns:
        Weights of the directions, (K,).
    """
    combination = np.zeros_like(lengths)
    combination[primary] = lengths[primary]
    others = np.arange(len(lengths)) != primary
    columns = directions[:, others]
    missing = tau * lengths[others] - lengths[primary] * (columns.T @ directions[:, primary])
    worst = missing.max(initial=0.0)
    if worst > 0:
        u = nearest_combination(columns, missing / worst)
        x = columns @ u
        met = 1 - missing @ u / worst  # the squared distance is (1 - met) / met in units of the worst
        if met > 0 and sqrt(x @ x) > max(_RESOLUTION, resolution()) * u.sum():
            combination[others] = worst * u / met
    return combination


def _weights_of_pairs(primary: int, norms: Array, cosines: Array, lengths: Array, tau: float) -> Array:
    """Weights of two tasks, (N, 2), by a formula.

    Args:
        primary: Index of the primary task.
        norms: (N, 2).
        cosines: (N,).
        lengths: (N, 2), the norms of the normalised gradients.
        tau: As in :func:`_nearest_to`.
    """
    own, other = lengths[:, primary], lengths[:, 1 - primary]
    lift = np.maximum(tau * other - own * cosines, 0.0)
    length = np.sqrt(own**2 + 2 * lift * own * cosines + lift**2)
    weights = np.empty_like(norms)
    weights[:, primary] = own / length
    weights[:, 1 - primary] = lift / length * norms[:, primary] / norms[:, 1 - primary]
    return weights
