"""Record of one step: losses, weights, Gramians, and the conflicts that follow from them."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from recon.gradients.precision import in_double


@dataclass
class StepInfo:
    """The record of one backward. Its tensors stay on their device until they are read.

    Attributes:
        step: Number of the step, counted by the engine from 0.
        losses: Task -> detached loss, for the tasks of the step; the mean over all processes and
            micro-batches.
        weights: (K,) weights that multiplied the task gradients, 0 for absent tasks; ``None`` for
            methods without such weights. With groups of layers (G, K), 0 for frozen groups.
        layer_gramians: (L, K, K) of the raw task gradients in the parameters, layers in forward
            order, zero for absent tasks; ``None`` when the step did not compute them.
        overflow: Whether a value overflowed float16, so that the step is to be skipped; see the
            engine's ``scaler``.

    Example:
        Two layers; the tasks agree in the first and conflict in the second.

        >>> agreeing, opposed = [[1.0, 1.0], [1.0, 1.0]], [[4.0, -4.0], [-4.0, 4.0]]
        >>> losses = {"a": torch.tensor(0.5), "b": torch.tensor(0.1)}
        >>> info = StepInfo(0, losses, layer_gramians=torch.tensor([agreeing, opposed]))
        >>> info.layer_cosines[:, 0, 1]
        tensor([ 1., -1.], dtype=torch.float64)
        >>> info.cosines[0, 1], info.conflict_rate
        (tensor(-0.6000, dtype=torch.float64), tensor(0.5000))
    """

    step: int
    losses: dict[str, Tensor]
    weights: Tensor | None = None
    layer_gramians: Tensor | None = None
    overflow: bool = False

    @cached_property
    def cosines(self) -> Tensor | None:
        """(K, K) cosines of the task gradients in all shared parameters; NaN where one is zero."""
        return None if self.layer_gramians is None else _cosines(in_double(self.layer_gramians).sum(0))

    @cached_property
    def layer_cosines(self) -> Tensor | None:
        """(L, K, K) cosines of the task gradients, layer by layer; NaN where one is zero."""
        return None if self.layer_gramians is None else _cosines(in_double(self.layer_gramians))

    @cached_property
    def conflict_rate(self) -> Tensor | None:
        """Fraction of negative cosines among the (layer, task pair) that have one."""
        if self.layer_cosines is None:
            return None
        tasks = self.layer_cosines.shape[-1]
        first, second = torch.triu_indices(tasks, tasks, offset=1, device=self.layer_cosines.device)
        pairs = self.layer_cosines[:, first, second]
        return (pairs < 0).sum() / (~pairs.isnan()).sum()


def _cosines(gramian: Tensor) -> Tensor:
    squares = gramian.diagonal(dim1=-2, dim2=-1)
    # One root of the product, as in the analyzer: exact where the cosine is rational.
    return (gramian / (squares.unsqueeze(-1) * squares.unsqueeze(-2)).sqrt()).clamp(-1, 1)
