"""Correlation-reduced stochastic multi-objective gradient manipulation (CR-MOGM), around any Gramian method.

Zhou, Zhang, Jiang, Zhong, Gu & Zhu, "On the Convergence of Stochastic Multi-Objective Gradient Manipulation and
Beyond", NeurIPS 2022, algorithm 2.

    λ <- α λ + (1 - α) the wrapped method's weights;   update λ'J

Needs the Gramian. State: λ, which starts at the wrapped method's first weights, and the wrapped method's state; its
randomness is that of the wrapped method, and its scale too.

The paper lets α grow as the learning rate decays; here it is fixed, as in TorchJD.
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
    """Another method's weights, smoothed over the steps.

    Args:
        method: Name of a registered Gramian method.
        alpha: Share of the past in the weights, in [0, 1]; 0 is the method itself.
        method_options: Its hyperparameters.
    """

    smoothed: Tensor
    started: Tensor

    def __init__(
        self, method: str = "mgda", alpha: float = 0.9, method_options: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(method, method_options)
        self.alpha = check_number("cr_mogm", "alpha", alpha, low=0, high=1)

    def make_state(self, tasks: int) -> None:
        """No weights yet."""
        self.register_buffer("smoothed", torch.zeros(tasks, dtype=torch.float64))
        self.register_buffer("started", torch.tensor(False))

    def weights(self, gramian: Tensor, losses: Tensor | None = None) -> Tensor:
        """The wrapped method's weights, smoothed, (K,)."""
        weights = self.wrapped.weights(gramian, losses)
        if self.started:
            weights = self.smoothed.to(weights).lerp(weights, 1 - self.alpha)
        else:
            self.started.fill_(True)
        self.smoothed.copy_(weights)
        return weights
