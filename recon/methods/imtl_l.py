"""Impartial multi-task learning, the loss balance alone (IMTL-L).

Liu, Li, Kuang, Xue, Chen, Yang, Liao & Zhang, "Towards Impartial Multi-task Learning", ICLR 2021,
section 3.2.

    min Σ exp(s_i) L_i - s_i,   update Σ exp(s_i) g_i;   s_i is learned along with the network

At the best s_i, exp(s_i) L_i = 1: all scaled losses are equal. Needs only the losses, and one
backward. The losses should be positive; otherwise s_i has no best value. The state is the K learned
log-scales, from 0, one parameter per task. The network's optimizer trains them, so give it the
method's parameters too, as :class:`recon.MultiTaskModule` does. Sum scale.

The paper combines the scaled losses by IMTL-G; `imtl` does both.
"""

from torch import Tensor

from recon.methods.base.registry import register_method
from recon.methods.base.scaled_losses import ScaledLossMethod


@register_method("imtl_l")
class IMTLL(ScaledLossMethod):
    """The losses, each times a learned scale that brings it towards 1.

    Example:
        >>> import torch
        >>> from recon import create_method
        >>> method = create_method("imtl_l")
        >>> method.combine(torch.tensor([[4.0, 0.0], [-1.0, 2.0]]), losses=torch.tensor([2.0, 1.0]))
        tensor([3., 2.])
    """

    saved_as = "log_scales"

    @property
    def log_scales(self) -> Tensor:
        """The learned log-scales, (K,), with their graph."""
        return self.by_task.stacked()

    def log_scales_of_tasks(self) -> Tensor:
        return self.log_scales
