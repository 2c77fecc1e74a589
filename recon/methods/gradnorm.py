"""Gradient normalization (GradNorm).

Chen, Badrinarayanan, Lee & Rabinovich, "GradNorm: Gradient Normalization for Adaptive Loss
Balancing in Deep Multitask Networks", ICML 2018, algorithm 1.

    update Σ w_i g_i;   then w descends along  Σ |w_i |g_i| - G r_i^α|
    G = mean of w_j |g_j|, held constant;   r_i = (L_i / L_i,0) / mean of L_j / L_j,0
    L_0 are the losses of the first step with the task

Needs the diagonal of the Gramian, and positive losses; a task whose loss is 0 takes no part. The
state is w, the Adam that moves it, and L_0. Sum scale: the weights sum to K.

The norms are those of the gradients in all shared parameters, which are at hand; the paper takes
the last shared layer to save time. The paper moves w itself and rescales it to sum K, and a weight
that crosses zero then runs away. We move the logits of w = K softmax, as other published code does,
by an Adam of their own at the paper's rate.
"""

import torch
from torch import Tensor

from recon.methods.base.checks import check_positive
from recon.methods.base.hyperparameters import check_number
from recon.methods.base.kinds import GramianMethod
from recon.methods.base.learned_weights import LearnedWeights
from recon.methods.base.registry import register_method
from recon.methods.base.state import StatefulMethod


@register_method("gradnorm")
class GradNorm(StatefulMethod, GramianMethod):
    """The task gradients, weighted so that their norms match how far each task lags behind.

    Args:
        alpha: Strength with which lagging tasks are favoured; finite and >= 0; 0 makes all norms
            equal. The default is the paper's for real data.
        lr: Learning rate of the weights' Adam, >= 0.

    Example:
        >>> import torch
        >>> from recon import create_method
        >>> method, jacobian = create_method("gradnorm"), torch.tensor([[4.0, 0.0], [-1.0, 2.0]])
        >>> method.combine(jacobian, losses=torch.tensor([2.0, 1.0]))  # equal weights at first
        tensor([3., 2.])
        >>> method.combine(jacobian, losses=torch.tensor([1.0, 1.0]))  # the second task lags
        tensor([2.8750, 2.0500])
    """

    scale = "sum"
    state_of_losses = ("first_losses",)
    simplex: LearnedWeights
    first_losses: Tensor

    def __init__(self, alpha: float = 1.5, lr: float = 0.025) -> None:
        super().__init__()
        self.alpha = check_number("gradnorm", "alpha", alpha, low=0)
        self.lr = check_number("gradnorm", "lr", lr, low=0)

    def make_state(self, tasks: int) -> None:
        self.simplex = LearnedWeights(tasks, self.lr)
        self.register_buffer("first_losses", torch.zeros(tasks, dtype=torch.float64))

    def weights(self, gramian: Tensor, losses: Tensor | None = None) -> Tensor:
        """The present weights, (K,); they move afterwards."""
        return self._take_weights(gramian, losses)

    def weights_of_groups(self, gramians: Tensor, losses: Tensor | None = None) -> Tensor:
        """The present weights in each group of layers, (G, K)."""
        return self._take_weights(gramians, losses)

    def _take_weights(self, gramians: Tensor, losses: Tensor | None) -> Tensor:
        """The present weights (..., K), which move by the norms of the gradients."""
        if losses is None:
            raise ValueError("gradnorm: compares how fast the losses fall; pass losses")
        check_positive("gradnorm", losses)
        if not losses.all():
            return self.weights_without(losses == 0, gramians, losses)
        tasks, norms = len(losses), gramians.diagonal(dim1=-2, dim2=-1).sqrt()
        weights = tasks * self.simplex().to("cpu", torch.float64)
        self.first_losses = torch.where(self.first_losses == 0, losses.to(self.first_losses), self.first_losses)
        rates = losses / self.first_losses.to(losses)
        lag = weights * norms - (weights * norms).mean(-1, keepdim=True) * (rates / rates.mean()) ** self.alpha
        self.simplex.descend(tasks * lag.sign() * norms, left_out=torch.zeros(tasks, dtype=torch.bool))
        return weights
