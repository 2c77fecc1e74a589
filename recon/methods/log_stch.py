"""Smooth Tchebycheff scalarisation of the logarithms of losses, after a warm-up.

Lin, Zhang, Yang, Liu, Wang & Zhang, "Smooth Tchebycheff Scalarization for Multi-Objective
Optimization", ICML 2024; the form that the authors run in their multi-task experiments.

    warm-up:  min Σ log L_i;   then  min K µ log Σ (L_i / n_i)^(1/µ)
    n_i is the mean loss in the last warm-up epoch

Needs positive losses, and one backward; a task whose loss is 0 takes no part. Needs to be told when
an epoch ends (:meth:`recon.Method.end_epoch`); without that the warm-up never ends. The state is
the running sum of the losses in this epoch, and n. Sum scale, of gradients of logarithms.

A mean is over the steps that had the task. A task that no warm-up epoch had takes its first loss
afterwards as n.
"""

import torch
from torch import Tensor

from recon.methods.base.checks import check_positive
from recon.methods.base.hyperparameters import check_count, check_number
from recon.methods.base.kinds import LossMethod
from recon.methods.base.registry import register_method
from recon.methods.base.state import StatefulMethod


@register_method("log_stch")
class LogSTCH(StatefulMethod, LossMethod):
    """A smooth maximum of each loss relative to its size after a warm-up.

    Args:
        mu: µ, at least 1e-30, which float32 still divides by. A smaller µ is nearer to the maximum.
        warmup_epochs: Number of epochs that train the sum of the logarithms, >= 1. The default is
            the published code's.

    Example:
        >>> import torch
        >>> from recon import create_method
        >>> method = create_method("log_stch")
        >>> method.combine(torch.tensor([[4.0, 0.0], [-1.0, 2.0]]), losses=torch.tensor([2.0, 1.0]))
        tensor([1., 2.])
    """

    scale = "sum"
    loss_sum: Tensor
    steps: Tensor
    epochs: Tensor
    nadir: Tensor

    def __init__(self, mu: float = 1.0, warmup_epochs: int = 5) -> None:
        super().__init__()
        self.mu = check_number("log_stch", "mu", mu, low=1e-30)
        self.warmup_epochs = check_count("log_stch", "warmup_epochs", warmup_epochs, low=1)

    def make_state(self, tasks: int) -> None:
        self.register_buffer("loss_sum", torch.zeros(tasks))
        self.register_buffer("steps", torch.zeros(tasks, dtype=torch.int64))
        self.register_buffer("epochs", torch.zeros((), dtype=torch.int64))
        self.register_buffer("nadir", torch.zeros(tasks))

    def loss_weights(self, losses: Tensor) -> Tensor:
        """Slopes of the objective, (K,).

        During warm-up the losses count towards the mean of this epoch.
        """
        check_positive("log_stch", losses)
        left_out = losses == 0
        self.loss_sum += losses.to(self.loss_sum)
        self.steps += ~left_out
        warm = (self.epochs < self.warmup_epochs).to(losses.device)
        new = ~warm & (self.nadir == 0)
        self.nadir = torch.where(new, losses.to(self.nadir), self.nadir)
        growth = torch.where(left_out, -torch.inf, (losses / self.nadir.to(losses)).log())
        smooth_maximum = (~left_out).sum() * ((growth - growth.max()) / self.mu).softmax(0)
        return torch.where(left_out, 0, torch.where(warm, 1, smooth_maximum) / losses)

    def end_epoch(self) -> None:
        """Record the mean losses of a warm-up epoch; an epoch without a step changes nothing."""
        if not self.tasks:
            return
        measured = (self.steps > 0) & (self.epochs < self.warmup_epochs)
        self.nadir = torch.where(measured, self.loss_sum / self.steps, self.nadir)
        self.epochs = self.epochs + (self.steps > 0).any()
        self.loss_sum = torch.zeros_like(self.loss_sum)
        self.steps = torch.zeros_like(self.steps)
