"""Multi-objective gradient with double sampling (MoDo).

Chen, Fernando, Ying & Chen, "Three-Way Trade-Off in Multi-Objective Learning: Optimization,
Generalization and Conflict-Avoidance", NeurIPS 2023, JMLR 2024, eq. 2.9.

    λ <- the nearest point of the simplex to λ - γ (G λ + ρ λ);   update λ'J

Needs the Gramian. The state is λ, from 1/K. No randomness. The update is a convex combination of
task gradients (mean scale). In a step with some of the tasks their λ keep their sum.

The unit of γ is 1 / G, one over squared gradients: the weights move faster for longer gradients. If
γ is below 2 over the largest eigenvalue of G + ρI and the gradients stay the same, the combination
gets shorter from step to step; for ρ = 0 it reaches the shortest. For a larger γ, λ can jump
between corners of the simplex.

In the paper G = J_1 J_2' comes from two independent batches (hence the name), and the update from
the mean of both or from a third. The gradient of λ is then unbiased, at two or three times the cost
of a step. Here all come from the batch at hand: G is its Gramian.
"""

import torch
from torch import Tensor

from recon.methods.base.hyperparameters import check_number
from recon.methods.base.kinds import GramianMethod
from recon.methods.base.registry import register_method
from recon.methods.base.state import StatefulMethod
from recon.methods.solvers.gramian import Array
from recon.methods.solvers.simplex import among_themselves, nearest_on_simplex, nearest_rows_on_simplex


@register_method("modo")
class MoDo(StatefulMethod, GramianMethod):
    """A convex combination of task gradients that moves towards the shortest in each step.

    Args:
        gamma: Learning rate of the weights, finite and >= 0; they settle below 2 over the largest
            eigenvalue of G + ρI. The default is the published code's (LibMTL: 0.001).
        rho: Pull towards equal weights, finite and >= 0.

    Example:
        >>> import torch
        >>> from recon import create_method
        >>> method = create_method("modo")
        >>> method.combine(torch.tensor([[4.0, 0.0], [-1.0, 2.0]]))
        tensor([0.1250, 1.5500])
    """

    simplex_weights: Tensor

    def __init__(self, gamma: float = 0.1, rho: float = 0.1) -> None:
        super().__init__()
        self.gamma = check_number("modo", "gamma", gamma, low=0)
        self.rho = check_number("modo", "rho", rho, low=0)

    def make_state(self, tasks: int) -> None:
        """Start with equal weights, (K,)."""
        self.register_buffer("simplex_weights", torch.full((tasks,), 1 / tasks, dtype=torch.float64))

    def weights(self, gramian: Tensor, losses: Tensor | None = None) -> Tensor:
        """A point of the simplex, (K,)."""
        products: Array = gramian.numpy()
        point, total = among_themselves(self.simplex_weights.to("cpu", torch.float64))
        w: Array = point.numpy()
        w = nearest_on_simplex(w - self.gamma * (products @ w + self.rho * w))
        self.simplex_weights = total * torch.from_numpy(w)
        return torch.from_numpy(w)

    def weights_of_groups(self, gramians: Tensor, losses: Tensor | None = None) -> Tensor:
        """Points of the simplex, (G, K)."""
        products: Array = gramians.numpy()
        points, totals = among_themselves(self.simplex_weights.to("cpu", torch.float64))
        w: Array = points.numpy()
        w = nearest_rows_on_simplex(w - self.gamma * ((products @ w[:, :, None])[:, :, 0] + self.rho * w))
        self.simplex_weights = totals * torch.from_numpy(w)
        return torch.from_numpy(w)
