"""Learned task weights: the softmax of logits that Adam moves."""

import torch
from torch import Tensor, nn

_MOMENTUM, _SQUARE_MOMENTUM, _EPSILON = 0.9, 0.999, 1e-8


class LearnedWeights(nn.Module):
    """The softmax of K logits, which start equal, with an Adam of their own for each.

    The checkpoint holds the state of the Adam. Kingma & Ba, "Adam: A Method for Stochastic
    Optimization", ICLR 2015, with its defaults.

    Args:
        tasks: K.
        lr: Adam's learning rate.
        weight_decay: Pull of the logits towards zero, as a term of their gradient.
    """

    def __init__(self, tasks: int, lr: float, weight_decay: float = 0.0) -> None:
        super().__init__()
        self.lr = lr
        self.weight_decay = weight_decay
        self.register_buffer("logits", torch.zeros(tasks, dtype=torch.float64))
        self.register_buffer("momentum", torch.zeros(tasks, dtype=torch.float64))
        self.register_buffer("square", torch.zeros(tasks, dtype=torch.float64))
        self.register_buffer("steps", torch.zeros(tasks, dtype=torch.int64))

    logits: Tensor
    momentum: Tensor
    square: Tensor
    steps: Tensor

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
        steps = self.steps + 1
        momentum = self.momentum.lerp(gradient, 1 - _MOMENTUM)
        square = self.square.lerp(gradient.square(), 1 - _SQUARE_MOMENTUM)
        mean = momentum / (1 - _MOMENTUM ** steps.to(self.logits))
        size = (square / (1 - _SQUARE_MOMENTUM ** steps.to(self.logits))).sqrt()
        logits = self.logits - self.lr * mean / (size + _EPSILON)
        for name, moved in (("steps", steps), ("momentum", momentum), ("square", square), ("logits", logits)):
            setattr(self, name, torch.where(left_out, getattr(self, name), moved))
