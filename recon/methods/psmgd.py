"""Periodic stochastic multi-gradient descent (PSMGD), around any Gramian method.

Xu, Ju, Liu & Yang, "PSMGD: Periodic Stochastic Multi-Gradient Descent for Fast Multi-Objective
Optimization", AAAI 2025.

    every n-th step, from the first: λ <- the wrapped method's weights;   update λ'J

Needs the Gramian at every n-th step; in between the engine makes one backward through the shared
part. The state is λ, the number of steps, and the state of the wrapped method. Randomness and scale
are those of the wrapped method.

A step with some of the tasks takes their λ. If one of them has none yet, the λ of these tasks are
computed out of turn.

The paper wraps MGDA. To smooth the weights too, wrap ``cr_mogm``, which wraps the method.
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
    """The weights of another method, kept for several steps.

    Args:
        method: Name of a registered Gramian method.
        every: Steps from one computation of the weights to the next, a whole number >= 1; 1 is the
            wrapped method itself.
        method_options: Hyperparameters of the wrapped method.

    Example:
        >>> import torch
        >>> from recon import create_method
        >>> method = create_method("psmgd", every=2)
        >>> method.combine(torch.tensor([[4.0, 0.0], [-1.0, 2.0]]))
        tensor([0.5517, 1.3793])
        >>> method.combine(torch.tensor([[2.0, 0.0], [0.0, 1.0]]))  # the same weights
        tensor([0.6207, 0.6897])
    """

    kept: Tensor
    steps: Tensor

    def __init__(self, method: str = "mgda", every: int = 4, method_options: Mapping[str, Any] | None = None) -> None:
        super().__init__(method, method_options)
        self.every = check_count("psmgd", "every", every, low=1)

    def make_state(self, tasks: int) -> None:
        """Start without weights."""
        self.register_buffer("kept", torch.full((tasks,), torch.nan, dtype=torch.float64))
        self.register_buffer("steps", torch.tensor(0))

    def known_weights(self) -> Tensor | None:
        """Return the kept weights, (K,), in a step that keeps them, and count that step.

        Other steps return ``None``. The engine asks before it computes task gradients; known
        weights need no Jacobian.
        """
        if self._is_due():
            return None
        self.steps = self.steps + 1
        return self.kept.clone()

    def weights(self, gramian: Tensor, losses: Tensor | None = None) -> Tensor:
        """The wrapped method's weights of this step or of a recent one, (K,)."""
        if self._is_due():
            self.kept = self.wrapped.weights(gramian, losses)
        self.steps = self.steps + 1
        return self.kept.clone()

    def weights_of_groups(self, gramians: Tensor, losses: Tensor | None = None) -> Tensor:
        """The same in each group of layers, (G, K); each counts the steps in which it trains."""
        due = self._is_due().nonzero().flatten().tolist()
        if due:
            with self.wrapped.among_groups(due):
                self.kept[due] = self.wrapped.weights_of_groups(gramians[due], losses)
        self.steps = self.steps + 1
        return self.kept.clone()

    def _is_due(self) -> Tensor:
        """Whether weights are computed: in turn, or for a task without; of groups (G,)."""
        return (self.steps % self.every == 0) | self.kept.isnan().any(-1)
