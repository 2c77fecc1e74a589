"""The sum of the logarithms of the losses; also called scale-invariant (SI).

The baseline of Navon, Shamsian, Achituve, Maron, Kawaguchi, Chechik & Fetaya, "Multi-Task Learning
as a Bargaining Game", ICML 2022.

    min Σ log L_i,   update Σ g_i / L_i

Needs positive losses, and one backward; a task whose loss is 0 takes no part. No state, no
randomness. The units of the losses do not change the update. Sum scale, of gradients of logarithms:
where losses are far from 1, the length of the update is too. The direction is that of `gls`.
"""

import torch
from torch import Tensor

from recon.methods.base.checks import check_positive
from recon.methods.base.kinds import LossMethod
from recon.methods.base.registry import register_method


@register_method("log_sum")
class LogSum(LossMethod):
    """The sum of the logarithms of the losses.

    Example:
        >>> import torch
        >>> from recon import create_method
        >>> method = create_method("log_sum")
        >>> method.combine(torch.tensor([[4.0, 0.0], [-1.0, 2.0]]), losses=torch.tensor([2.0, 1.0]))
        tensor([1., 2.])
    """

    scale = "sum"

    def loss_weights(self, losses: Tensor) -> Tensor:
        """Inverse losses, (K,)."""
        check_positive("log_sum", losses)
        return torch.where(losses == 0, 0, 1 / losses)
