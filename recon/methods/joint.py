"""Joint training: the sum of the losses, or a fixed weighting of them.

    min Σ a_i L_i,   update Σ a_i g_i

Needs only the losses, and one backward. No state, no randomness. Sum scale: the weights a_i are 1
by default.
"""

from collections.abc import Sequence

from torch import Tensor

from recon.methods.base.kinds import LossMethod
from recon.methods.base.per_task import PerTaskMethod, check_numbers, numbers_like
from recon.methods.base.registry import register_method


@register_method("joint")
class Joint(PerTaskMethod, LossMethod):
    """The sum of the losses, each times a fixed weight.

    Args:
        weights: A finite number >= 0 for each task, in task order; ones by default.

    Example:
        >>> import torch
        >>> from recon import create_method
        >>> method = create_method("joint", weights=[1.0, 0.5])
        >>> method.combine(torch.tensor([[4.0, 0.0], [-1.0, 2.0]]))
        tensor([3.5000, 1.0000])
    """

    scale = "sum"
    per_task = ("weights",)

    def __init__(self, weights: Sequence[float] | None = None) -> None:
        super().__init__()
        self.weights = check_numbers("joint", "weights", weights, low=0)

    def loss_weights(self, losses: Tensor) -> Tensor:
        """The fixed weights, (K,)."""
        return numbers_like(losses, self.weights, default=1)

    def combine(self, jacobian: Tensor, losses: Tensor | None = None) -> Tensor:
        """The weighted sum of the rows of the (K, P) Jacobian, (P,); needs no losses."""
        return super().combine(jacobian, jacobian.new_zeros(jacobian.shape[:1]) if losses is None else losses)
