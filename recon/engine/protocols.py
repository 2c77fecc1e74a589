"""The analyzers and methods that the engine works with, by the functions it calls."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor, nn


class Analyzer(Protocol):
    """An observer of conflicts (:class:`recon.ConflictAnalyzer`)."""

    tasks: tuple[str, ...]

    def follow(self, shared: nn.Module) -> None:
        """Learn the layers of the Gramians to come: the trainable ones of the shared part."""

    def observes(self) -> bool:
        """Whether the step that begins is observed; called once a step."""

    def retract(self) -> None:
        """Uncount the step that has begun, since it was refused."""

    def observe(self, layer_gramians: Tensor) -> None:
        """Take in the (L, K, K) layer Gramians of an observed step."""


@runtime_checkable
class KnowsWeights(Protocol):
    """A Gramian method that knows the weights of some steps before there are gradients.

    Those steps cost less.
    """

    def known_weights(self) -> Tensor | None:
        """The (K,) weights of the step that begins, which it then counts.

        ``None`` if they need the Gramian.
        """


@runtime_checkable
class WeighsParts(Protocol):
    """A Gramian method that weighs the tasks by their gradients in parts of the batch.

    Samples are told apart at the representation alone.
    """

    parts: int
    """Number of parts; 1 for the whole batch."""

    def weights_of_parts(self, gramians: Tensor, losses: Tensor | None = None) -> Tensor:
        """Weights of the task gradients, (K,), from their products in each part, (n, K, K)."""


@runtime_checkable
class LearnsFromGradients(Protocol):
    """A module beside the shared part that learns from the gradients which pass through it."""

    def take_gradients(self) -> dict[str, Tensor]:
        """Task -> the gradient of its loss that backwards have left here; each is taken once."""

    def learn(
        self,
        batches: Sequence[Mapping[str, Tensor]],
        tasks: Sequence[str],
        summed: Callable[[Tensor], Tensor],
    ) -> None:
        """Learn from the gradients of a step, after the method.

        Args:
            batches: The gradients taken after each micro-batch, as parts of those of the mean loss
                over micro-batches and processes.
            tasks: The tasks of the step, in order.
            summed: Sums a tensor over the processes, which all call it alike.
        """
