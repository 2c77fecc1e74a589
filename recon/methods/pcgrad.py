"""Projecting conflicting gradients (PCGrad).

Yu, Kumar, Gupta, Levine, Hausman & Finn, "Gradient Surgery for Multi-Task Learning", NeurIPS 2020,
algorithm 1.

    p_i = g_i;   for every other task j in random order:  p_i -= min(0, p_i·g_j) / |g_j|² g_j
    update Σ p_i

Needs the Gramian: each p_i is a combination of task gradients, so its inner products follow from
theirs. As published, p_i is projected against the original g_j. The only state is the generator of
the orders, one permutation per task. The update is a sum over tasks (sum scale). A zero gradient
conflicts with none.
"""

import numpy as np
import torch
from torch import Tensor

from recon.methods.base.kinds import GramianMethod
from recon.methods.base.randomness import RandomMethod
from recon.methods.base.registry import register_method
from recon.methods.solvers.gramian import Array
from recon.methods.solvers.orders import orders_of_others


@register_method("pcgrad")
class PCGrad(RandomMethod, GramianMethod):
    """The sum of the task gradients, each without the part that opposes another.

    Args:
        seed: Seed of the order of projections.

    Example:
        >>> import torch
        >>> from recon import create_method
        >>> method = create_method("pcgrad")
        >>> method.combine(torch.tensor([[4.0, 0.0], [-1.0, 2.0]]))
        tensor([3.2000, 3.6000])
    """

    scale = "sum"

    def weights(self, gramian: Tensor, losses: Tensor | None = None) -> Tensor:
        """Weights of the original task gradients in the sum of the projected ones, (K,)."""
        products: Array = gramian.numpy()
        squared_norms = np.where(products.diagonal() > 0, products.diagonal(), np.inf)  # a zero gradient opposes none
        tasks = np.arange(len(products))
        projected = np.eye(len(products))  # row i: p_i in terms of the original gradients
        for other in orders_of_others(len(products), self.generator).T:
            overlap = np.vecdot(projected, products[other])
            projected[tasks, other] -= np.minimum(overlap, 0.0) / squared_norms[other]
        return torch.from_numpy(projected.sum(axis=0))
