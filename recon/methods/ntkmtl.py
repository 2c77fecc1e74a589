"""NTKMTL: tasks weighted by the speed at which their neural tangent kernel learns.

Qin, Wang, Liao & Yan, "NTKMTL: Mitigating Task Imbalance in Multi-Task Learning from Neural Tangent
Kernel Perspective", NeurIPS 2025.

    update Σ w_i g_i,   w_i = (Σ_j λ_j / λ_i)^a,   λ_i = |g_i|²

λ_i is the largest eigenvalue of the kernel of task i over n parts of the batch. For n = 1, as in
the paper's comparison with methods of gradients, the kernel is one number. For a = 1/2 all tasks
contribute vectors of one length, the root of the sum of all squared norms.

Needs the diagonal of the Gramian. No state, no randomness. Sum scale: K equal task gradients have
weights of K^a each. A zero gradient takes no part.

NTKMTL-SR, its form at the shared representation, is ``at="representation"`` of the engine. The
published code divides the batch into n = 4 parts there and weights heads by w_i too; here n is 1,
and each head has the gradient of its own task. The published code multiplies the update by K and
clips it to length 1; here neither is done.
"""

import torch
from torch import Tensor

from recon.methods.base.hyperparameters import check_number
from recon.methods.base.kinds import GramianMethod
from recon.methods.base.registry import register_method


@register_method("ntkmtl")
class NTKMTL(GramianMethod):
    """The task gradients, weighted by the inverse of their length relative to all.

    Args:
        exponent: a, in [0, 1]; 0 is the plain sum. The default is the paper's; its authors advise
            0.75 for tasks that are hard to train.

    Example:
        >>> import torch
        >>> from recon import create_method
        >>> method = create_method("ntkmtl")
        >>> method.combine(torch.tensor([[4.0, 0.0], [0.0, 3.0]]))
        tensor([5., 5.])
    """

    scale = "sum"

    def __init__(self, exponent: float = 0.5) -> None:
        super().__init__()
        self.exponent = check_number("ntkmtl", "exponent", exponent, low=0, high=1)

    def weights(self, gramian: Tensor, losses: Tensor | None = None) -> Tensor:
        """Weights of the task gradients, (K,)."""
        return self._weights(gramian)

    def weights_of_groups(self, gramians: Tensor, losses: Tensor | None = None) -> Tensor:
        """The same in each group of layers, (G, K)."""
        return self._weights(gramians)

    def _weights(self, gramians: Tensor) -> Tensor:
        squares = gramians.diagonal(dim1=-2, dim2=-1)
        total = squares.sum(dim=-1, keepdim=True)
        return torch.where(squares > 0, (total / squares) ** self.exponent, 0)
