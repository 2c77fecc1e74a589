"""Learned task weights: the softmax of logits that Adam moves."""

import torch
from torch import Tensor, nn

_MOMENTUM, _SQUARE_MOMENTUM, _EPSILON = 0.9, 0.999, 1e-8


class LearnedWeights(nn.Module):
    """The softmax of K logits, which start equal, with an Adam of their own.

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
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    logits: Tensor
    momentum: Tensor
    square: Tensor
    steps: Tensor

    def forward(self) -> Tensor:
        """The weights, (K,): positive, with sum 1; of several groups of layers (G, K)."""
        return self.logits.softmax(-1)

    def descend(self, slope: Tensor) -> None:
        """Make one step of Adam, given the gradient of the objective in the weights."""
        weights, slope = self(), slope.to(self.logits)
        gradient = (
            weights * (slope - torch.linalg.vecdot(weights, slope).unsqueeze(-1)) + self.weight_decay * self.logits
        )
        self.steps += 1
        self.momentum.lerp_(gradient, 1 - _MOMENTUM)
        self.square.lerp_(gradient.square(), 1 - _SQUARE_MOMENTUM)
        steps = self.steps.to(self.logits).unsqueeze(-1)
        mean = self.momentum / (1 - _MOMENTUM**steps)
        size = (self.square / (1 - _SQUARE_MOMENTUM**steps)).sqrt()
        self.logits -= self.lr * mean / (size + _EPSILON)
