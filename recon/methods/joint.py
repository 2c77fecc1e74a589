"""Joint training: the sum of the losses, or a fixed weighting of them.

    min Σ a_i L_i,   update Σ a_i g_i

Needs only the losses, and one backward. No state, no randomness. Sum scale: the weights a_i are 1 unless given.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from recon.methods.checks import check_number
from recon.methods.method import LossMethod
from recon.methods.registry import register_method


@register_method("joint")
class Joint(LossMethod):
    """The sum of the losses, each times a fixed weight.

    Args:
        weights: A finite number >= 0 for each task, in task order; ones if left out.
    """

    scale = "sum"

    def __init__(self, weights: Sequence[float] | None = None) -> None:
        super().__init__()
        if weights is not None:
            weights = [check_number("joint", f"weights[{i}]", weight, low=0) for i, weight in enumerate(weights)]
        self.weights = weights

    def loss_weights(self, losses: Tensor) -> Tensor:
        """The fixed weights, (K,)."""
        if self.weights is None:
            return torch.ones_like(losses)
        if len(self.weights) != losses.shape[0]:
            raise ValueError(f"joint: {len(self.weights)} weights for {losses.shape[0]} tasks; give one weight a task")
        # Filled one by one: on an accelerator, a tensor made from a list would wait for the device.
        return torch.stack([losses.new_full((), weight) for weight in self.weights])

    def combine(self, jacobian: Tensor, losses: Tensor | None = None) -> Tensor:
        """The weighted sum of the rows of the (K, P) Jacobian, (P,); losses are not needed."""
        return super().combine(jacobian, jacobian.new_zeros(jacobian.shape[:1]) if losses is None else losses)
