"""Dynamic weight average (DWA).

Liu, Johns & Davison, "End-to-End Multi-Task Learning with Attention", CVPR 2019, equation 7.

    w = K softmax(r / T),   update Σ w_i g_i
    r_i = (mean loss of task i in the last epoch) / (its mean loss in the epoch before)

Needs only the losses, and one backward. Needs to be told when an epoch ends
(:meth:`recon.Method.end_epoch`); without that the weights stay 1. The state is the running sum of
the losses and the means of the last two epochs. Sum scale: all weights are 1 in the first two
epochs and sum to K later.

A task whose mean loss was 0 has no rate; its r counts as 1. A mean is over the steps that had the
task, and an epoch without the task does not count for it.
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
        temperature: T, at least 1e-30, which float32 still divides by. A larger T makes the weights
            more alike. The default is the paper's.

    Example:
        >>> import torch
        >>> from recon import create_method
        >>> method = create_method("dwa")
        >>> for losses in ([2.0, 2.0], [1.0, 2.0]):  # the first task's loss halves
        ...     _ = method.loss_weights(torch.tensor(losses))
        ...     method.end_epoch()
        >>> method.loss_weights(torch.tensor([1.0, 2.0]))
        tensor([0.8756, 1.1244])
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
        self.register_buffer("steps", torch.zeros(tasks, dtype=torch.int64))
        self.register_buffer("epochs", torch.zeros(tasks, dtype=torch.int64))
        self.register_buffer("last_mean", torch.ones(tasks))
        self.register_buffer("earlier_mean", torch.ones(tasks))

    def loss_weights(self, losses: Tensor) -> Tensor:
        """Weights that sum to K, (K,); the losses count towards the mean of this epoch."""
        self.loss_sum += losses.to(self.loss_sum)
        self.steps += 1
        rates = torch.where(self.earlier_mean == 0, 1, self.last_mean / self.earlier_mean)
        return len(losses) * ((rates - rates.max()) / self.temperature).softmax(0).to(losses)

    def end_epoch(self) -> None:
        """Record the mean losses of the epoch; it changes nothing for tasks without a step."""
        if not self.tasks:
            return
        seen, mean = self.steps > 0, self.loss_sum / self.steps
        # After the first epoch there is no rate yet: two equal means make all weights 1.
        earlier = torch.where(self.epochs == 0, mean, self.last_mean)
        self.earlier_mean = torch.where(seen, earlier, self.earlier_mean)
        self.last_mean = torch.where(seen, mean, self.last_mean)
        self.loss_sum = torch.zeros_like(mean)
        self.steps = torch.zeros_like(self.steps)
        self.epochs = self.epochs + seen
