"""Smooth Tchebycheff scalarisation (STCH).

Lin, Zhang, Yang, Liu, Wang & Zhang, "Smooth Tchebycheff Scalarization for Multi-Objective
Optimization", ICML 2024, equation 7.

    min K µ log Σ exp(λ_i (L_i - z_i) / µ)
    update K Σ λ_i p_i g_i  with  p = softmax(λ (L - z) / µ)

Needs only the losses, and one backward. No state, no randomness. Mean scale: λ is 1/K for each task
by default, and the factor K is ours, so that equal tasks are trained plainly. As µ falls to 0 the
method becomes `tchebycheff`.

The authors' multi-task experiments apply the method to logarithms of losses, after a warm-up;
`log_stch` does that.
"""

from collections.abc import Sequence
from math import inf

from torch import Tensor

from recon.methods.base.hyperparameters import check_number
from recon.methods.base.kinds import LossMethod
from recon.methods.base.per_task import PerTaskMethod, check_numbers, numbers_like
from recon.methods.base.preference import check_preference
from recon.methods.base.registry import register_method


@register_method("stch")
class STCH(PerTaskMethod, LossMethod):
    """A smooth maximum of the losses.

    Args:
        mu: µ, at least 1e-30, which float32 still divides by. A smaller µ is nearer to the maximum.
        preference: λ, a number >= 0 for each task, in task order; 1/K each by default.
        ideal: z, the best value of each loss, in task order; zeros by default.

    Example:
        >>> import torch
        >>> from recon import create_method
        >>> method = create_method("stch")
        >>> method.combine(torch.tensor([[4.0, 0.0], [-1.0, 2.0]]), losses=torch.tensor([2.0, 1.0]))
        tensor([2.1123, 0.7551])
    """

    per_task = ("preference", "ideal")

    def __init__(
        self, mu: float = 1.0, preference: Sequence[float] | None = None, ideal: Sequence[float] | None = None
    ) -> None:
        super().__init__()
        self.mu = check_number("stch", "mu", mu, low=1e-30)
        self.preference = check_preference("stch", preference)
        self.ideal = check_numbers("stch", "ideal", ideal, low=-inf)

    def loss_weights(self, losses: Tensor) -> Tensor:
        """K times the slopes of the smooth maximum, (K,)."""
        preference = numbers_like(losses, self.preference, default=1 / len(losses))
        regrets = preference * (losses - numbers_like(losses, self.ideal, default=0))
        return len(losses) * preference * ((regrets - regrets.max()) / self.mu).softmax(0)
