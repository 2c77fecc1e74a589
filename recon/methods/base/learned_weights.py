"""Learned task weights, each moved by an Adam of its own; free ones, and the softmax of logits."""

import torch
from torch import Tensor, nn

_MOMENTUM, _SQUARE_MOMENTUM, _EPSILON = 0.9, 0.999, 1e-8


class TaskAdam(nn.Module):
    """An Adam of its own for each of K numbers; its state is part of the checkpoint.

    Kingma & Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015, with its defaults.

    Args:
        tasks: K.
        lr: Adam's learning rate.
    """

    def __init__(self, tasks: int, lr: float) -> None:
        super().__init__()
        self.lr = lr
        self.register_buffer("momentum", torch.zeros(tasks, dtype=torch.float64))
        self.register_buffer("square", torch.zeros(tasks, dtype=torch.float64))
        self.register_buffer("steps", torch.zeros(tasks, dtype=torch.int64))

    momentum: Tensor
    square: Tensor
    steps: Tensor

    def moved(self, values: Tensor, gradient: Tensor, left_out: Tensor) -> Tensor:
        """The numbers after a step.

        Args:
            values: (K,), the numbers; of several groups of layers (G, K).
            gradient: Their gradient.
            left_out: (K,), whether a number and its Adam stand still.
        """
        steps = self.steps + 1
        momentum = self.momentum.lerp(gradient, 1 - _MOMENTUM)
        square = self.square.lerp(gradient.square(), 1 - _SQUARE_MOMENTUM)
        mean = momentum / (1 - _MOMENTUM ** steps.to(values))
        size = (square / (1 - _SQUARE_MOMENTUM ** steps.to(values))).sqrt()
        for name, moved in (("steps", steps), ("momentum", momentum), ("square", square)):
            setattr(self, name, torch.where(left_out, getattr(self, name), moved))
        return torch.where(left_out, values, values - self.lr * mean / (size + _EPSILON))


class LearnedWeights(TaskAdam):
    """The softmax of K logits, which start equal, with an Adam of their own for each.

    Args:
        tasks: K.
        lr: Adam's learning rate.
        weight_decay: Pull of the logits towards zero, as a term of their gradient.
    """

    def __init__(self, tasks: int, lr: float, weight_decay: float = 0.0) -> None:
        super().__init__(tasks, lr)
        self.weight_decay = weight_decay
        self.register_buffer("logits", torch.zeros(tasks, dtype=torch.float64))

    logits: Tensor

    def forward(self) -> Tensor:
        """The weights, (K,): positive, with sum 1; of several groups of layers (G, K)."""
        return self.logits.softmax(-1)

    def descend(self, slope: Tensor, left_out: Tensor) -> None:
        """Make one step of Adam.

        Args:
            slope: (K,), the gradient of the objective in the weights; of several groups (G, K).
            left_out: (K,), whether a task takes no part; its logit and its Adam stand still. The
                weights are then those of the other tasks alone.
        """
        slope = torch.where(left_out, 0, slope).to(self.logits)
        weights = torch.where(left_out, 0, torch.where(left_out, -torch.inf, self.logits).softmax(-1))
        inner = torch.linalg.vecdot(weights, slope).unsqueeze(-1)
        gradient = weights * (slope - inner) + self.weight_decay * self.logits
        self.logits = self.moved(self.logits, gradient, left_out)
