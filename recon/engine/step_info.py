"""What one step of multi-task training knew: losses, weights, Gramians, and the conflicts that follow from them."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from recon.gradients.precision import in_double


@dataclass
class StepInfo:
    """What one backward knew. Tensors stay on their device; nothing here forces a transfer until it is read.

    Attributes:
        step: Number of the step, counted by the engine from 0.
        losses: Task -> detached loss.
        weights: (K,) weights that multiplied the task gradients; ``None`` for methods that have no such weights.
        layer_gramians: (L, K, K) of the raw task gradients in the parameters, layers in forward order; ``None`` when
            the step did not compute those.
    """

    step: int
    losses: dict[str, Tensor]
    weights: Tensor | None = None
    layer_gramians: Tensor | None = None

    @cached_property
    def cosines(self) -> Tensor | None:
        """(K, K) cosines of the task gradients over all shared parameters; NaN where a gradient is zero."""
        return None if self.layer_gramians is None else _cosines(in_double(self.layer_gramians).sum(0))

    @cached_property
    def layer_cosines(self) -> Tensor | None:
        """(L, K, K) cosines of the task gradients layer by layer; NaN where a gradient is zero."""
        return None if self.layer_gramians is None else _cosines(in_double(self.layer_gramians))

    @cached_property
    def conflict_rate(self) -> Tensor | None:
        """Fraction of (layer, task pair) with negative cosine, among those that have a cosine."""
        if self.layer_cosines is None:
            return None
        tasks = self.layer_cosines.shape[-1]
        first, second = torch.triu_indices(tasks, tasks, offset=1, device=self.layer_cosines.device)
        pairs = self.layer_cosines[:, first, second]
        return (pairs < 0).sum() / (~pairs.isnan()).sum()


def _cosines(gramian: Tensor) -> Tensor:
    squares = gramian.diagonal(dim1=-2, dim2=-1)
    # One root of the product, as the analyzer takes it: exact where the cosine is rational.
    return (gramian / (squares.unsqueeze(-1) * squares.unsqueeze(-2)).sqrt()).clamp(-1, 1)
