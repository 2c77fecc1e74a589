"""Soft optimal uncertainty weights (UW-SO).

Kirchdorfer, Elich, Kutsche, Stuckenschmidt, Schott & Köhler, "Analytical Uncertainty-Based Loss
Weighting in Multi-Task Learning", GCPR 2024 (arXiv:2408.07985).

    update Σ w_i g_i,   w = softmax(1 / (T L))

1 / L is the analytical optimum of the weights that ``uw`` learns; taken as weights, it is
``log_sum``. The softmax keeps small losses from taking everything.

Needs only the losses, which are positive, and one backward; a task whose loss is 0 takes no part.
No state, no randomness. The weights sum to 1 (mean scale). The paper tunes T for each data set.
"""

import torch
from torch import Tensor

from recon.methods.base.checks import check_positive
from recon.methods.base.hyperparameters import check_number
from recon.methods.base.kinds import LossMethod
from recon.methods.base.registry import register_method


@register_method("uw_so")
class UWSO(LossMethod):
    """The losses, weighted by the softmax of their inverses.

    Args:
        temperature: T, at least 1e-30, which float32 still divides by. A larger T makes the weights
            more alike.

    Example:
        >>> import torch
        >>> from recon import create_method
        >>> method = create_method("uw_so")
        >>> method.loss_weights(torch.tensor([2.0, 1.0]))
        tensor([0.3775, 0.6225])
    """

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__()
        self.temperature = check_number("uw_so", "temperature", temperature, low=1e-30)

    def loss_weights(self, losses: Tensor) -> Tensor:
        """Weights that sum to 1, (K,); zeros if all losses are 0."""
        check_positive("uw_so", losses)
        inverse = torch.where(losses == 0, -torch.inf, 1 / losses.clamp(min=torch.finfo(losses.dtype).tiny))
        weights = ((inverse - inverse.max()) / self.temperature).softmax(0)
        return torch.where(losses == 0, 0, weights)
