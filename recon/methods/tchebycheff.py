"""Tchebycheff scalarisation: the worst of the weighted losses.

Bowman, "On the relationship of the Tchebycheff norm and the efficient frontier of multiple-criteria
objectives", 1976.

    min K max_i λ_i (L_i - z_i),   update K λ_j g_j  of the worst task j

Needs only the losses, and one backward. No state, no randomness. Mean scale: λ is 1/K for each task
by default, and the factor K is ours, so that equal tasks are trained plainly. Tasks that are
equally bad share the update equally.
"""

from collections.abc import Sequence
from math import inf

from torch import Tensor

from recon.methods.base.kinds import LossMethod
from recon.methods.base.per_task import PerTaskMethod, check_numbers, numbers_like
from recon.methods.base.preference import check_preference
from recon.methods.base.registry import register_method


@register_method("tchebycheff")
class Tchebycheff(PerTaskMethod, LossMethod):
    """The loss of the worst task.

    Args:
        preference: λ, a number >= 0 for each task, in task order; 1/K each by default.
        ideal: z, the best value of each loss, in task order; zeros by default.

    Example:
        >>> import torch
        >>> from recon import create_method
        >>> method = create_method("tchebycheff")
        >>> method.combine(torch.tensor([[4.0, 0.0], [-1.0, 2.0]]), losses=torch.tensor([2.0, 1.0]))
        tensor([4., 0.])
    """

    per_task = ("preference", "ideal")

    def __init__(self, preference: Sequence[float] | None = None, ideal: Sequence[float] | None = None) -> None:
        super().__init__()
        self.preference = check_preference("tchebycheff", preference)
        self.ideal = check_numbers("tchebycheff", "ideal", ideal, low=-inf)

    def loss_weights(self, losses: Tensor) -> Tensor:
        """K times the preference of the worst task, and zero for the others, (K,)."""
        preference = numbers_like(losses, self.preference, default=1 / len(losses))
        regrets = preference * (losses - numbers_like(losses, self.ideal, default=0))
        worst = (regrets == regrets.max()).to(losses.dtype)
        return len(losses) * preference * worst / worst.sum()
