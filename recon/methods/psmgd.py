"""Periodic stochastic multi-gradient descent (PSMGD), around any Gramian method.

Xu, Ju, Liu & Yang, "PSMGD: Periodic Stochastic Multi-Gradient Descent for Fast Multi-Objective Optimization",
AAAI 2025.

    every n-th step, from the first: λ <- the wrapped method's weights;   update λ'J

Needs the Gramian, at every n-th step; in between the engine makes one backward through the shared part. State: λ, the
number of steps, and the wrapped method's state; its randomness is that of the wrapped method, and its scale too.

The paper wraps MGDA. Weights that are smoothed too: wrap ``cr_mogm``, which wraps the method.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from recon.methods.base.hyperparameters import check_count
from recon.methods.base.registry import register_method
from recon.methods.base.wrapper import GramianWrapper


@register_method("psmgd")
class PSMGD(GramianWrapper):
    """Another method's weights, kept for several steps.

    Args:
        method: Name of a registered Gramian method.
        every: Steps between two computations of the weights, a whole number >= 1; 1 is the method itself.
        method_options: Its hyperparameters.
    """

    kept: Tensor
    steps: Tensor

    def __init__(self, method: str = "mgda", every: int = 4, method_options: Mapping[str, Any] | None = None) -> None:
        super().__init__(method, method_options)
        self.every = check_count("psmgd", "every", every, low=1)

    def make_state(self, tasks: int) -> None:
        """No weights yet."""
        self.register_buffer("kept", torch.zeros(tasks, dtype=torch.float64))
        self.register_buffer("steps", torch.tensor(0))

    def known_weights(self) -> Tensor | None:
        """The kept weights, (K,), in a step that keeps them, which is then counted; ``None`` in the others.

        The engine asks before it computes task gradients, and where it is answered needs no Jacobian.
        """
        if self.steps % self.every == 0:
            return None
        self.steps = self.steps + 1
        return self.kept.clone()

    def weights(self, gramian: Tensor, losses: Tensor | None = None) -> Tensor:
        """The wrapped method's weights of this step or of one not long ago, (K,)."""
        if self.steps % self.every == 0:
            self.kept = self.wrapped.weights(gramian, losses)
        self.steps = self.steps + 1
        return self.kept.clone()
