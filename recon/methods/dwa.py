"""Dynamic weight average (DWA).

Liu, Johns & Davison, "End-to-End Multi-Task Learning with Attention", CVPR 2019, equation 7.

    w = K softmax(r / T),   r_i = (mean loss of task i in the last epoch) / (in the epoch before it);   update Σ w_i g_i

Needs only the losses, and one backward; and to be told when an epoch ends (:meth:`recon.Method.end_epoch`), else the
weights stay 1. The state is the running sum of losses and the means of the last two epochs. Sum scale: in the first
two epochs all weights are 1, later they sum to K.

A task whose mean loss was 0 has no rate; its r counts as 1.
"""

import torch
from torch import Tensor

from recon.methods.base.hyperparameters import check_number
from recon.methods.base.kinds import LossMethod
from recon.methods.base.registry import register_method
from recon.methods.base.state import StatefulMethod


@register_method("dwa")
class DWA(StatefulMethod, LossMethod):
    """The losses, weighted by how slowly each has fallen over the last two epochs.

    Args:
        temperature: T, at least 1e-30, which float32 still divides by; the larger, the more alike the weights. The
            default is the paper's.
    """

    scale = "sum"
    loss_sum: Tensor
    steps: Tensor
    epochs: Tensor
    last_mean: Tensor
    earlier_mean: Tensor

    def __init__(self, temperature: float = 2.0) -> None:
        super().__init__()
        self.temperature = check_number("dwa", "temperature", temperature, low=1e-30)

    def make_state(self, tasks: int) -> None:
        self.register_buffer("loss_sum", torch.zeros(tasks))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("epochs", torch.zeros((), dtype=torch.int64))
        self.register_buffer("last_mean", torch.ones(tasks))
        self.register_buffer("earlier_mean", torch.ones(tasks))

    def loss_weights(self, losses: Tensor) -> Tensor:
        """Weights that sum to K, (K,); the losses enter the mean of this epoch."""
        self.loss_sum += losses.to(self.loss_sum)
        self.steps += 1
        rates = torch.where(self.earlier_mean == 0, 1, self.last_mean / self.earlier_mean)
        return len(losses) * ((rates - rates.max()) / self.temperature).softmax(0).to(losses)

    def end_epoch(self) -> None:
        """Take the mean losses of the epoch that ends; an epoch without a step changes nothing."""
        if not self.tasks or self.steps == 0:
            return
        mean = self.loss_sum / self.steps
        # After the first epoch there is no rate yet: two equal means make all weights 1.
        self.earlier_mean = mean if self.epochs == 0 else self.last_mean
        self.last_mean = mean
        self.loss_sum = torch.zeros_like(mean)
        self.steps = torch.zeros_like(self.steps)
        self.epochs = self.epochs + 1
