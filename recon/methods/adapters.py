"""What :func:`recon.methods.interop.to_torchjd` returns. The only file that needs TorchJD to be imported."""

from torch import Tensor
from torchjd.aggregation import Aggregator, GramianWeightedAggregator, Weighting
from torchjd.scalarization import Scalarizer

from recon.methods.method import GramianMethod, JacobianMethod, LossMethod


class ReconWeighting(Weighting):  # type: ignore[type-arg]
    """Gramian -> weights, by a Gramian method."""

    def __init__(self, method: GramianMethod) -> None:
        super().__init__()
        self.method = method

    def forward(self, gramian: Tensor, /) -> Tensor:
        """The method's weights, (K,), in the Gramian's dtype and on its device."""
        return self.method.weights(gramian).to(gramian)


class ReconAggregator(GramianWeightedAggregator):
    """Jacobian -> update, by a Gramian method."""

    def __init__(self, method: GramianMethod) -> None:
        super().__init__(ReconWeighting(method))


class ReconJacobianAggregator(Aggregator):
    """Jacobian -> update, by a Jacobian method."""

    def __init__(self, method: JacobianMethod) -> None:
        super().__init__()
        self.method = method

    def forward(self, matrix: Tensor, /) -> Tensor:
        """The method's update, (P,)."""
        return self.method.combine(matrix.detach())


class ReconScalarizer(Scalarizer):
    """Losses -> objective, by a loss method; the weights count as constants in the losses."""

    def __init__(self, method: LossMethod) -> None:
        super().__init__()
        self.method = method

    def forward(self, values: Tensor, /) -> Tensor:
        """The scalar to differentiate."""
        return self.method.objective(values.flatten())
