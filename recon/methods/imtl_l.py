"""Impartial multi-task learning, the loss balance alone (IMTL-L).

Liu, Li, Kuang, Xue, Chen, Yang, Liao & Zhang, "Towards Impartial Multi-task Learning", ICLR 2021, section 3.2.

    min Σ exp(s_i) L_i - s_i,   update Σ exp(s_i) g_i;   s_i is learned along with the network

Where s_i is at its best, exp(s_i) L_i = 1: all scaled losses are equal. Needs only the losses, and one backward; they
should be positive, or s_i has no best value. The state is the K learned log-scales, from 0; the network's optimizer
trains them, so give it the method's parameters too (:class:`recon.MultiTaskModule` does). Sum scale.

In the paper scaled losses are combined by IMTL-G; that is `imtl`.
"""

import torch
from torch import Tensor, nn

from recon.methods.base.registry import register_method
from recon.methods.base.scaled_losses import ScaledLossMethod


@register_method("imtl_l")
class IMTLL(ScaledLossMethod):
    """The losses, each times a learned scale that brings it towards 1."""

    log_scales: nn.Parameter

    def make_state(self, tasks: int) -> None:
        self.log_scales = nn.Parameter(torch.zeros(tasks))

    def log_scales_of_tasks(self) -> Tensor:
        return self.log_scales
