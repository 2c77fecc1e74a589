"""Penalty-based boundary intersection (PBI).

Zhang & Li, "MOEA/D: A Multiobjective Evolutionary Algorithm Based on Decomposition", IEEE
Transactions on Evolutionary Computation 2007, section III.C.

    min (d_1 + θ d_2) / Σ u_i,   d_1 = u·(L - z),  d_2 = |L - z - d_1 u|,  u = λ / |λ|

Needs only the losses, and one backward. No state, no randomness. Mean scale: the division by Σ u_i
is ours, so that equal tasks are trained plainly. A task that is better off than λ asks can get a
negative weight.

Where d_2 = 0 it has no slope; we take the smallest of its subgradients, 0. In a step of tasks that
are all given λ = 0 the update is zero.
"""

from collections.abc import Sequence
from math import inf

import torch
from torch import Tensor

from recon.methods.base.hyperparameters import check_number
from recon.methods.base.kinds import LossMethod
from recon.methods.base.per_task import PerTaskMethod, check_numbers, numbers_like
from recon.methods.base.preference import check_preference
from recon.methods.base.registry import register_method


@register_method("pbi")
class PBI(PerTaskMethod, LossMethod):
    """The losses along a preferred ratio, and a penalty for leaving that ratio.

    Args:
        theta: Penalty of the distance from the preferred direction, >= 0. The default is the
            paper's.
        preference: λ, the ratio of the losses, a number >= 0 for each task; equal by default.
        ideal: z, the best value of each loss, in task order; zeros by default.

    Example:
        >>> import torch
        >>> from recon import create_method
        >>> method = create_method("pbi", theta=0.5)
        >>> method.combine(torch.tensor([[4.0, 0.0], [-1.0, 2.0]]), losses=torch.tensor([2.0, 1.0]))
        tensor([2.7500, 0.5000])
    """

    per_task = ("preference", "ideal")

    def __init__(
        self, theta: float = 5.0, preference: Sequence[float] | None = None, ideal: Sequence[float] | None = None
    ) -> None:
        super().__init__()
        self.theta = check_number("pbi", "theta", theta, low=0)
        self.preference = check_preference("pbi", preference)
        self.ideal = check_numbers("pbi", "ideal", ideal, low=-inf)

    def loss_weights(self, losses: Tensor) -> Tensor:
        """Slopes of the objective, (K,)."""
        direction = numbers_like(losses, self.preference, default=1 / len(losses))
        direction = torch.where(direction.any(), direction / direction.norm(), 0)
        regrets = losses - numbers_like(losses, self.ideal, default=0)
        aside = regrets - (regrets @ direction) * direction
        aside = aside - (aside @ direction) * direction  # once more, for rounding: exactly across where it is tiny
        distance = aside.norm()
        rounding = 1e2 * torch.finfo(losses.dtype).eps * regrets.norm()
        slope = torch.where(distance > rounding, aside / distance, 0)
        return torch.where(direction.any(), (direction + self.theta * slope) / direction.sum(), 0)
