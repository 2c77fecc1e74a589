"""Projecting conflicting gradients (PCGrad).

Yu, Kumar, Gupta, Levine, Hausman & Finn, "Gradient Surgery for Multi-Task Learning", NeurIPS 2020, algorithm 1.

    g_i' = g_i;  for every other task j, in random order:  g_i' -= min(0, g_i' . g_j) / |g_j|^2  g_j;   update sum_i g_i'

Needs the Gramian: each g_i' is a combination of the task gradients, and its inner products follow from theirs. Projections are onto the
original g_j, as published. Randomness: the order, one permutation a task, from the method's own generator; no other state.
The update is a sum of (projected) task gradients (sum scale). A zero gradient is in conflict with none.
"""

import numpy as np
import torch
from torch import Tensor

from recon.methods.method import GramianMethod, RandomMethod
from recon.methods.registry import register_method


@register_method("pcgrad")
class PCGrad(RandomMethod, GramianMethod):
    """Sum of the task gradients after each has lost its component against every other.

    Args:
        seed: Seed of the projection order.
    """

    scale = "sum"

    def weights(self, gramian: Tensor, losses: Tensor | None = None) -> Tensor:
        """Weights of the original task gradients in the sum of the projected ones, (K,)."""
        products = gramian.numpy()
        squared_norms = products.diagonal()
        inverse = np.divide(1.0, squared_norms, out=np.zeros_like(squared_norms), where=squared_norms > 0)
        tasks = np.arange(len(products))
        projected = np.eye(len(products))  # row i: g_i' in terms of the original gradients
        for other in self._orders(len(products)).T:
            overlap = np.einsum("ij,ij->i", projected, products[other])
            projected[tasks, other] -= np.minimum(overlap, 0.0) * inverse[other]
        return torch.from_numpy(projected.sum(axis=0))

    def _orders(self, tasks: int) -> np.ndarray:
        """For each task all other tasks in random order, (K, K - 1)."""
        order = torch.rand(tasks, tasks, generator=self.generator).argsort(dim=1)
        return order[order != torch.arange(tasks)[:, None]].view(tasks, tasks - 1).numpy()
