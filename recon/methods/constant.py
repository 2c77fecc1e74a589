"""Constant weights of the task gradients.

    update Σ a_i g_i

Takes the form of a Gramian method, and so costs one backward per task. No state, no randomness. Sum
scale: the weights a_i are 1 by default.

``joint`` updates the shared parameters in the same way with one backward, and weights the heads
too. Here each head has its own task's gradient, as with the other gradient methods.
"""

from collections.abc import Sequence
from math import inf

from torch import Tensor

from recon.methods.base.kinds import GramianMethod
from recon.methods.base.per_task import PerTaskMethod, check_numbers, numbers_like
from recon.methods.base.registry import register_method


@register_method("constant")
class Constant(PerTaskMethod, GramianMethod):
    """The sum of the task gradients, each times a fixed number.

    Args:
        factors: A finite number for each task, in task order; ones by default.

    Example:
        >>> import torch
        >>> from recon import create_method
        >>> method = create_method("constant", factors=[1.0, 2.0])
        >>> method.combine(torch.tensor([[4.0, 0.0], [-1.0, 2.0]]))
        tensor([2., 4.])
    """

    scale = "sum"
    per_task = ("factors",)

    def __init__(self, factors: Sequence[float] | None = None) -> None:
        super().__init__()
        self.factors = check_numbers("constant", "factors", factors, low=-inf)

    def weights(self, gramian: Tensor, losses: Tensor | None = None) -> Tensor:
        """The fixed numbers, (K,)."""
        return numbers_like(gramian.diagonal(), self.factors, default=1)

    def weights_of_groups(self, gramians: Tensor, losses: Tensor | None = None) -> Tensor:
        """The fixed numbers in every group of layers, (G, K)."""
        return self.weights(gramians[0]).expand(len(gramians), -1)
