"""Krum and Multi-Krum: the task gradients that lie nearest to others.

Blanchard, El Mhamdi, Guerraoui & Stainer, "Machine Learning with Adversaries: Byzantine Tolerant
Gradient Descent", NeurIPS 2017.

    score_i = Σ |g_i - g_j|² over the K - f - 2 others nearest to g_i
    update: the mean of the m gradients of lowest score

Needs the Gramian, and at least f + 3 tasks; the paper's guarantee asks for 2 f + 3. No state, no
randomness. The update is a mean of task gradients (mean scale). Of equal scores the first task's is
taken, as published.

In a step with fewer than f + 3 of the tasks, no distances tell which gradients are far off: the
update is their mean. With fewer than m of the tasks, it is the mean of all that are there.

TorchJD adds distances instead of their squares, and can choose other gradients.
"""

import numpy as np
import torch
from torch import Tensor

from recon.methods.base.hyperparameters import check_count
from recon.methods.base.kinds import GramianMethod
from recon.methods.base.registry import register_method
from recon.methods.solvers.gramian import Array


@register_method("krum")
class Krum(GramianMethod):
    """The mean of the task gradients that lie nearest to others.

    Args:
        n_byzantine: f, the number of gradients that may be far off, a whole number >= 0.
        n_selected: m, the number of gradients to average, a whole number >= 1 and at most the
            number of tasks.

    Example:
        >>> import torch
        >>> from recon import create_method
        >>> jacobian = torch.tensor([[1.0, 0.0], [1.0, 1.0], [-5.0, 9.0]])
        >>> create_method("krum", n_selected=2).combine(jacobian)
        tensor([1.0000, 0.5000])
    """

    def __init__(self, n_byzantine: int = 0, n_selected: int = 1) -> None:
        super().__init__()
        self.n_byzantine = check_count("krum", "n_byzantine", n_byzantine, low=0)
        self.n_selected = check_count("krum", "n_selected", n_selected, low=1)

    def bind(self, tasks: int) -> None:
        """Set the number of tasks.

        Raises:
            ValueError: There are fewer than f + 3 or m tasks.
        """
        least = max(self.n_byzantine + 3, self.n_selected)
        if tasks < least:
            raise ValueError(
                f"krum: n_byzantine={self.n_byzantine} and n_selected={self.n_selected} need at least {least} tasks, "
                f"got {tasks}"
            )
        super().bind(tasks)

    def weights(self, gramian: Tensor, losses: Tensor | None = None) -> Tensor:
        """1/m for the chosen tasks and 0 for the others, (K,)."""
        return torch.from_numpy(self._weights(gramian.numpy()))

    def weights_of_groups(self, gramians: Tensor, losses: Tensor | None = None) -> Tensor:
        """The same for all groups of layers at once, (G, K)."""
        return torch.from_numpy(self._weights(gramians.numpy()))

    def _weights(self, products: Array) -> Array:
        """Weights (..., K) of Gramians (..., K, K)."""
        tasks = products.shape[-1]
        squares = np.diagonal(products, axis1=-2, axis2=-1)
        distances = (squares[..., None, :] + squares[..., :, None] - 2 * products).clip(min=0.0)
        distances[..., np.arange(tasks), np.arange(tasks)] = np.inf
        neighbours = tasks - self.n_byzantine - 2
        selected = min(self.n_selected, tasks) if neighbours > 0 else tasks
        scores = np.sort(distances, axis=-1)[..., : max(neighbours, 0)].sum(axis=-1)
        weights = np.zeros_like(scores)
        chosen = np.argsort(scores, axis=-1, kind="stable")[..., :selected]
        np.put_along_axis(weights, chosen, 1 / selected, axis=-1)
        return weights
