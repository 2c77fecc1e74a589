"""The objects that :func:`~recon.methods.torchjd.interop.to_torchjd` returns.

This is the only file that must import TorchJD. The weights and updates of gradient methods have no
graph, and a backward through them is refused, as with TorchJD's own methods that solve a problem.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torchjd.aggregation import Aggregator, GramianWeightedAggregator, Weighting
from torchjd.scalarization import Scalarizer

from recon.methods.base.kinds import GramianMethod, JacobianMethod, LossMethod
from recon.methods.solvers.gramian import gramian_of
from recon.methods.solvers.resolution import gradients_in


class _WithoutGraph(nn.Module):
    """Mixin, to stand first in the bases: calls build no graph."""

    @torch.no_grad()
    def __call__(self, *args: Any) -> Any:
        return super().__call__(*args)


class ReconWeighting(_WithoutGraph, Weighting):  # type: ignore[type-arg]
    """Gramian -> weights, by a Gramian method."""

    def __init__(self, method: GramianMethod) -> None:
        super().__init__()
        self.method = method

    def forward(self, gramian: Tensor, /) -> Tensor:
        """The method's weights, (K,), in the Gramian's dtype and on its device."""
        return self.method.weights(gramian).to(gramian)


class ReconMatrixWeighting(_WithoutGraph, Weighting):  # type: ignore[type-arg]
    """Jacobian -> weights, by a weighting of its Gramian.

    The Gramian is computed in float64, as in :meth:`GramianMethod.combine`.
    """

    def __init__(self, gramian_weighting: Weighting) -> None:  # type: ignore[type-arg]
        super().__init__()
        self.gramian_weighting = gramian_weighting

    def forward(self, matrix: Tensor, /) -> Tensor:
        """The method's weights, (K,), in the Jacobian's dtype and on its device."""
        with gradients_in(matrix.dtype):
            return self.gramian_weighting(gramian_of(matrix)).to(matrix)


class ReconAggregator(_WithoutGraph, GramianWeightedAggregator):
    """Jacobian -> update, by a Gramian method."""

    def __init__(self, method: GramianMethod) -> None:
        super().__init__(ReconWeighting(method))
        self.weighting = ReconMatrixWeighting(self.gramian_weighting)


class ReconJacobianAggregator(_WithoutGraph, Aggregator):
    """Jacobian -> update, by a Jacobian method."""

    def __init__(self, method: JacobianMethod) -> None:
        super().__init__()
        self.method = method

    def forward(self, matrix: Tensor, /) -> Tensor:
        """The method's update, (P,)."""
        return self.method.combine(matrix)


class ReconScalarizer(Scalarizer):
    """Losses -> objective, by a loss method; the weights count as constants in the losses."""

    def __init__(self, method: LossMethod) -> None:
        super().__init__()
        self.method = method

    def forward(self, values: Tensor, /) -> Tensor:
        """The scalar to differentiate."""
        return self.method.objective(values.flatten())
