"""MetaBalance: auxiliary gradients brought near the length of the primary one.

He, Feng, Cheng, Ji, Guo & Caverlee, "MetaBalance: Improving Multi-Task Recommendations via Adapting
Gradient Magnitudes of Auxiliary Tasks", WWW 2022, algorithm 1, strategy C.

    update Σ w_i g_i,   w_i = r n_1 / n_i + 1 - r
    n_i the moving average of |g_i|;  task 1 is the primary task

The averages are corrected for their start from 0, task by task. It cancels, as in the paper, unless
tasks are absent from steps.

Needs the diagonal of the Gramian. The state is the moving averages. No randomness. Sum scale: the
weight of the primary task is 1. In a step without the primary task all weights are 1.

The paper takes the norms in each layer by itself, and so does the published code, parameter by
parameter: ``granularity="layer"`` of the engine does so. By default they are those in all shared
parameters.
"""

import torch
from torch import Tensor

from recon.methods.base.hyperparameters import check_below, check_number
from recon.methods.base.kinds import GramianMethod
from recon.methods.base.primary_task import PrimaryTaskMethod
from recon.methods.base.registry import register_method


@register_method("metabalance")
class MetaBalance(PrimaryTaskMethod, GramianMethod):
    """The sum of the task gradients, the auxiliary ones partly as long as the primary one.

    Args:
        relax: r, how far lengths are balanced, in [0, 1]; 0 is the plain sum. The default is the
            published code's.
        beta: Share of the past in the moving averages, in [0, 1). The default is the paper's.
        primary: Index of the primary task, in task order.

    Example:
        >>> import torch
        >>> from recon import create_method
        >>> method = create_method("metabalance")
        >>> method.combine(torch.tensor([[4.0, 0.0], [0.0, 2.0]]))
        tensor([4.0000, 3.4000])
    """

    scale = "sum"
    norms: Tensor
    steps: Tensor

    def __init__(self, relax: float = 0.7, beta: float = 0.9, primary: int = 0) -> None:
        super().__init__(primary)
        self.relax = check_number("metabalance", "relax", relax, low=0, high=1)
        self.beta = check_below("metabalance", "beta", beta, low=0, high=1)

    def make_state(self, tasks: int) -> None:
        super().make_state(tasks)
        self.register_buffer("norms", torch.zeros(tasks, dtype=torch.float64))
        self.register_buffer("steps", torch.zeros(tasks, dtype=torch.int64))

    def weights(self, gramian: Tensor, losses: Tensor | None = None) -> Tensor:
        """Weights of the task gradients, (K,)."""
        return self._weights(gramian)

    def weights_of_groups(self, gramians: Tensor, losses: Tensor | None = None) -> Tensor:
        """The same in each group of layers, (G, K)."""
        return self._weights(gramians)

    def _weights(self, gramians: Tensor) -> Tensor:
        norms = gramians.diagonal(dim1=-2, dim2=-1).sqrt()
        norms = self.beta * self.norms.to(norms) + (1 - self.beta) * norms
        self.norms, self.steps = norms.to(self.norms), self.steps + 1
        norms = norms / (1 - self.beta ** self.steps.to(norms))  # tasks with fewer steps count in full
        primary = self.primary_row()
        if primary is None:
            return torch.ones_like(norms)
        ratios = torch.where(norms > 0, norms[..., primary : primary + 1] / norms, 0)
        return self.relax * ratios + 1 - self.relax
