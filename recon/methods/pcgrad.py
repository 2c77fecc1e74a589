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
        return torch.from_numpy(self._weights(gramian.numpy()[None])[0])

    def weights_of_groups(self, gramians: Tensor, losses: Tensor | None = None) -> Tensor:
        """The same for all groups of layers at once, (G, K)."""
        return torch.from_numpy(self._weights(gramians.numpy()))

    def _weights(self, gramians: Array) -> Array:
        groups, tasks, _ = gramians.shape
        products = gramians.reshape(-1, tasks)  # row (group, task i): of g_i with each gradient of the group
        squares = np.diagonal(gramians, axis1=1, axis2=2).ravel()
        squared_norms = np.where(squares > 0, squares, np.inf)  # a zero gradient opposes none
        row = np.arange(len(products))
        first = row - row % tasks
        projected = np.tile(np.eye(tasks), (groups, 1))  # row (group, task i): p_i in terms of the original gradients
        for other in orders_of_others(groups, tasks, self.generator).reshape(len(products), tasks - 1).T:
            overlap = np.vecdot(projected, products[first + other])
            projected[row, other] -= np.minimum(overlap, 0.0) / squared_norms[first + other]
        return projected.reshape(groups, tasks, tasks).sum(axis=1)
