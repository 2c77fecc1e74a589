"""COSMOS: a weighted sum of the losses that prefers a direction.

Ruchte & Grabocka, "Scalable Pareto Front Approximation for Deep Multi-Objective Learning", ICDM
2021, equation 8.

    min λ·L - penalty cos(λ, L)

Needs only the losses, and one backward. No state, no randomness. Mean scale: λ is 1/K for each task
by default. A task that is better off than λ asks can get a negative weight.

The paper draws λ anew in each step and also feeds it to the network, to learn a whole front. Here λ
is fixed.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from recon.methods.base.hyperparameters import check_number
from recon.methods.base.kinds import LossMethod
from recon.methods.base.per_task import PerTaskMethod, numbers_like
from recon.methods.base.preference import check_preference
from recon.methods.base.registry import register_method


@register_method("cosmos")
class COSMOS(PerTaskMethod, LossMethod):
    """The weighted sum of the losses, less the cosine between the losses and the preference.

    Args:
        penalty: Factor of the cosine, >= 0; 0 gives the weighted sum. The paper uses 0.01 to 8.
        preference: λ, a number >= 0 for each task, in task order; 1/K each by default.

    Example:
        >>> import torch
        >>> from recon import create_method
        >>> method = create_method("cosmos")
        >>> method.combine(torch.tensor([[4.0, 0.0], [-1.0, 2.0]]), losses=torch.tensor([2.0, 1.0]))
        tensor([1.8795, 0.7470])
    """

    def __init__(self, penalty: float = 1.0, preference: Sequence[float] | None = None) -> None:
        super().__init__()
        self.penalty = check_number("cosmos", "penalty", penalty, low=0)
        self.preference = check_preference("cosmos", preference)

    def loss_weights(self, losses: Tensor) -> Tensor:
        """Slopes of the objective, (K,); where all losses are 0 the cosine counts as constant."""
        preference = numbers_like(losses, self.preference, default=1 / len(losses))
        size = losses.norm()
        direction = losses / size
        aim = torch.where(preference.any(), preference / preference.norm(), 0)
        slope = torch.where(size > 0, (aim - (aim @ direction) * direction) / size, 0)
        return preference - self.penalty * slope
