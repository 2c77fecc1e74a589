"""Methods that learn a scale for each loss, along with the network."""

from abc import abstractmethod
from typing import ClassVar

from torch import Tensor

from recon.methods.base.kinds import LossMethod
from recon.methods.base.learned_scalars import LearnedScalarsMethod


class ScaledLossMethod(LearnedScalarsMethod, LossMethod):
    """Base of methods that minimise ``factor * sum_i exp(l_i) L_i - l_i`` over log-scales l too.

    Subclasses return the log-scales from :meth:`log_scales_of_tasks`.

    Attributes:
        factor: Weight of every loss while its log-scale is 0.
    """

    scale = "sum"
    factor: ClassVar[float] = 1.0

    @abstractmethod
    def log_scales_of_tasks(self) -> Tensor:
        """The learned log-scales, (K,), with their graph."""

    def loss_weights(self, losses: Tensor) -> Tensor:
        """The learned scales, (K,), times the factor."""
        return self._times_factor(self.log_scales_of_tasks().exp()).to(losses)

    def objective(self, losses: Tensor) -> Tensor:
        """The scaled losses, less a term that keeps the scales from vanishing."""
        return super().objective(losses) - self._times_factor(self.log_scales_of_tasks().sum()).to(losses)

    def _times_factor(self, values: Tensor) -> Tensor:
        return values if self.factor == 1 else self.factor * values  # spares a kernel, forth and back
