"""Correlation-reduced stochastic multi-objective gradient manipulation (CR-MOGM).

A wrapper of any Gramian method.

Zhou, Zhang, Jiang, Zhong, Gu & Zhu, "On the Convergence of Stochastic Multi-Objective Gradient
Manipulation and Beyond", NeurIPS 2022, algorithm 2.

    λ <- α λ + (1 - α) the wrapped method's weights;   update λ'J

Needs the Gramian. The state is λ, whose entry of a task starts at the wrapped method's first weight
for it, and the state of the wrapped method. Randomness and scale are those of the wrapped method.

In the paper α grows as the learning rate decays; here it is fixed, as in TorchJD.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from recon.methods.base.hyperparameters import check_number
from recon.methods.base.registry import register_method
from recon.methods.base.wrapper import GramianWrapper


@register_method("cr_mogm")
class CRMOGM(GramianWrapper):
    """The weights of another method, smoothed over the steps.

    Args:
        method: Name of a registered Gramian method.
        alpha: Share of the past in the weights, in [0, 1]; 0 is the wrapped method itself.
        method_options: Hyperparameters of the wrapped method.

    Example:
        >>> import torch
        >>> from recon import create_method
        >>> method = create_method("cr_mogm", method="mgda", alpha=0.9)
        >>> method.combine(torch.tensor([[4.0, 0.0], [-1.0, 2.0]]))  # the first weights are MGDA's
        tensor([0.5517, 1.3793])
        >>> method.combine(torch.tensor([[2.0, 0.0], [0.0, 1.0]]))
        tensor([0.5986, 0.7007])
    """

    smoothed: Tensor
    started: Tensor

    def __init__(
        self, method: str = "mgda", alpha: float = 0.9, method_options: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(method, method_options)
        self.alpha = check_number("cr_mogm", "alpha", alpha, low=0, high=1)

    def make_state(self, tasks: int) -> None:
        """Start without weights."""
        self.register_buffer("smoothed", torch.zeros(tasks, dtype=torch.float64))
        self.register_buffer("started", torch.zeros(tasks, dtype=torch.bool))

    def weights(self, gramian: Tensor, losses: Tensor | None = None) -> Tensor:
        """The smoothed weights, (K,)."""
        return self._smooth(self.wrapped.weights(gramian, losses))

    def weights_of_groups(self, gramians: Tensor, losses: Tensor | None = None) -> Tensor:
        """The smoothed weights in each group of layers, (G, K)."""
        return self._smooth(self.wrapped.weights_of_groups(gramians, losses))

    def _smooth(self, weights: Tensor) -> Tensor:
        smoothed = self.smoothed.to(weights).lerp(weights, 1 - self.alpha)
        weights = torch.where(self.started.cpu(), smoothed, weights)
        self.started.fill_(True)
        self.smoothed.copy_(weights)
        return weights
