"""RotoGrad: task gradients of one length, in a network that rotates the features for each task.

A wrapper of any Gramian method.

Javaloy & Valera, "RotoGrad: Gradient Homogenization in Multitask Learning", ICLR 2022, algorithm 1.

    C = Σ α_i |g_i|,   α_i = r_i / Σ r_j,   r_i = |g_i| / |g_i,0|
    the wrapped method combines C g_i / |g_i|;   the plain sum of these is the published update

g_i,0 is the task's first gradient, and from step ``burn_in`` on the gradient of that step. Needs
the Gramian. The state is |g_i,0|, a count of steps for each task, and the state of the wrapped
method. Randomness and scale are those of the wrapped method. A zero gradient stays zero.

This is half of RotoGrad. The other half is a rotation of the features for each task, between
backbone and heads. The rotations are part of the network (:class:`recon.models.RotatedHeads`) and
learn beside any method; :class:`recon.MultiTaskModule` adds them where the method is ``rotograd``.
The published norms are those of gradients in the features: ``at="representation"``. Otherwise, as
in a branched network, they are those in the shared parameters.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from recon.methods.base.hyperparameters import check_count
from recon.methods.base.registry import register_method
from recon.methods.base.wrapper import GramianWrapper


@register_method("rotograd")
class RotoGrad(GramianWrapper):
    """The update of another method for task gradients that were brought to one length.

    Args:
        method: Name of a registered Gramian method; ``constant`` sums the gradients, as published.
        burn_in: Step whose gradients take the place of the first ones, a whole number >= 0. The
            default is the published code's.
        method_options: Hyperparameters of the wrapped method.

    Example:
        >>> import torch
        >>> from recon import create_method
        >>> method = create_method("rotograd")
        >>> method.combine(torch.tensor([[4.0, 0.0], [0.0, 2.0]]))  # both of the mean length
        tensor([3., 3.])
        >>> method.combine(torch.tensor([[2.0, 0.0], [0.0, 2.0]]))  # the first has halved
        tensor([2., 2.])
    """

    first_norms: Tensor
    steps: Tensor

    def __init__(
        self, method: str = "constant", burn_in: int = 20, method_options: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(method, method_options)
        self.burn_in = check_count("rotograd", "burn_in", burn_in, low=0)

    def make_state(self, tasks: int) -> None:
        """Start without a first gradient."""
        self.register_buffer("first_norms", torch.zeros(tasks, dtype=torch.float64))
        self.register_buffer("steps", torch.zeros(tasks, dtype=torch.int64))

    def weights(self, gramian: Tensor, losses: Tensor | None = None) -> Tensor:
        """The wrapped method's weights, times the factors that make the gradients equally long."""
        factors = self._factors(gramian)
        return factors * self.wrapped.weights(_scaled(gramian, factors), losses)

    def weights_of_groups(self, gramians: Tensor, losses: Tensor | None = None) -> Tensor:
        """The same in each group of layers, (G, K)."""
        factors = self._factors(gramians)
        return factors * self.wrapped.weights_of_groups(_scaled(gramians, factors), losses)

    def _factors(self, gramians: Tensor) -> Tensor:
        """C / |g_i| (..., K), and 0 for a zero gradient; counts the step."""
        norms = gramians.diagonal(dim1=-2, dim2=-1).sqrt()
        trains = norms > 0
        taken = trains & ((self.steps == 0) | (self.steps == self.burn_in))
        self.first_norms = torch.where(taken, norms, self.first_norms)
        self.steps = self.steps + trains
        ratios = torch.where(trains, norms / self.first_norms, 0)
        length = (ratios * norms).sum(-1, keepdim=True) / ratios.sum(-1, keepdim=True)
        return torch.where(trains, length / norms, 0)


def _scaled(gramians: Tensor, factors: Tensor) -> Tensor:
    """The Gramians (..., K, K) of the gradients times their factors (..., K)."""
    return factors.unsqueeze(-1) * gramians * factors.unsqueeze(-2)
