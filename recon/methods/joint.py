"""Joint training: the sum of the losses, or a fixed weighting of them.

    min  sum_i a_i L_i,   update sum_i a_i g_i

Needs nothing but the losses: one backward. No state, no randomness. Sum scale when the weights are ones, as they are by default.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from recon.methods.checks import check_number
from recon.methods.method import LossMethod
from recon.methods.registry import register_method


@register_method("joint")
class Joint(LossMethod):
    """Sum of the losses, each multiplied by a fixed weight.

    Args:
        weights: One finite number >= 0 a task, in task order; ones when left out.
    """

    scale = "sum"

    def __init__(self, weights: Sequence[float] | None = None) -> None:
        super().__init__()
        self.weights = None if weights is None else [check_number("joint", "weights", a, low=0.0) for a in weights]
        if self.weights is not None:
            self.register_buffer("_weights", torch.tensor(self.weights), persistent=False)

    def loss_weights(self, losses: Tensor) -> Tensor:
        """The fixed weights, (K,)."""
        if self.weights is None:
            return torch.ones_like(losses)
        if len(self.weights) != len(losses):
            raise ValueError(f"joint: got {len(self.weights)} weights for {len(losses)} tasks; give one weight a task")
        return self.get_buffer("_weights").to(losses)

    def combine(self, jacobian: Tensor, losses: Tensor | None = None) -> Tensor:
        """The weighted sum of the rows of the (K, P) Jacobian, (P,); no losses needed."""
        return super().combine(jacobian, jacobian.new_zeros(jacobian.shape[:1]) if losses is None else losses)
