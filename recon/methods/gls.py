"""Geometric loss strategy (GLS).

Chennupati, Sistu, Yogamani & Rawashdeh, "MultiNet++: Multi-Stream Feature Aggregation and Geometric
Loss Strategy for Multi-Task Learning", CVPR workshops 2019, equation 4.

    min (Π L_i)^(1/K),   update Σ w_i g_i  with  w_i = (Π L_j)^(1/K) / (K L_i)

Needs positive losses, and one backward; a task whose loss is 0 takes no part. No state, no
randomness. Mean scale for equal losses. The unit of a single loss does not change the direction.

We take the mean of the logarithms; the product of many losses could overflow or vanish.
"""

import torch
from torch import Tensor

from recon.methods.base.checks import check_positive
from recon.methods.base.kinds import LossMethod
from recon.methods.base.registry import register_method


@register_method("gls")
class GLS(LossMethod):
    """The geometric mean of the losses.

    Example:
        >>> import torch
        >>> from recon import create_method
        >>> method = create_method("gls")
        >>> method.combine(torch.tensor([[4.0, 0.0], [-1.0, 2.0]]), losses=torch.tensor([2.0, 1.0]))
        tensor([0.7071, 1.4142])
    """

    def loss_weights(self, losses: Tensor) -> Tensor:
        """Slopes of the geometric mean, (K,)."""
        check_positive("gls", losses)
        left_out = losses == 0
        logs, tasks = torch.where(left_out, 0, losses.log()), (~left_out).sum()
        return torch.where(left_out, 0, (logs.sum() / tasks - logs).exp() / tasks)
