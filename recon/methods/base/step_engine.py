"""What a method may use of the engine in its own ``step``."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, TypeVar

from torch import Tensor, nn

from recon.gradients.buffer import TaskGradients


class StepRecord(Protocol):
    """What a backward of the engine knew (:class:`recon.StepInfo`).

    Attributes:
        losses: Task -> detached loss.
    """

    losses: dict[str, Tensor]


Info = TypeVar("Info", bound=StepRecord)
InfoOut = TypeVar("InfoOut", bound=StepRecord, covariant=True)

Closure = Callable[..., Mapping[str, Tensor]]
"""``closure(batch=None) -> {task: loss}`` evaluates the batch at hand, or another one."""


class StepEngine(Protocol[InfoOut]):
    """The engine within a step: it turns the losses of an evaluation into gradients, as often as the
    method evaluates.

    A mapping of losses is handed over as the closure returned it: it may carry the features with
    it.
    """

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the K tasks."""

    @property
    def gradients(self) -> TaskGradients:
        """The buffer of task gradients, as the latest :meth:`backward` has filled it."""

    def backward(self, losses: Mapping[str, Tensor], representation: Tensor | None = None) -> InfoOut:
        """Add the method's update to ``.grad`` of the shared parameters, each task's gradient to that
        of its own.

        Args:
            losses: Task -> scalar loss with a graph, which is freed.
            representation: The features that all heads took, if the losses do not carry them.
        """

    def own_parameters(self, loss: Tensor) -> list[nn.Parameter]:
        """Parameters outside the shared layers that a loss reaches: those of its task's head and
        branches.
        """

    def own_gradients(self, losses: Mapping[str, Tensor]) -> list[tuple[list[nn.Parameter], list[Tensor]]]:
        """For each task its :meth:`own_parameters` and the gradients of its loss in them; the graph is
        kept.
        """

    def task_gradient_change(self, task: str, losses: Mapping[str, Tensor]) -> None:
        """Replace a task's row of the Jacobian by the change of its gradient since then, in one
        backward.

        The task's own parameters receive their gradient in ``.grad``; ``.grad`` of the shared
        parameters stays.

        Args:
            task: Name of the task.
            losses: Task -> scalar loss with a graph; that of the task is freed.
        """

    def loss_values(self, losses: Mapping[str, Tensor]) -> Tensor:
        """The losses (K,) of an evaluation after :meth:`backward`, detached, in the order of the
        tasks.

        Raises:
            ValueError: One is missing, unknown, no scalar, or not finite.
        """

    def like_parameters(self, flat: Tensor) -> list[Tensor]:
        """A (P,) row of the Jacobian as views in the shapes of ``gradients.parameters``."""

    def perturbed(self, parameters: Sequence[Tensor], steps: Sequence[Tensor]) -> AbstractContextManager[None]:
        """Move parameters by steps of their shapes for a ``with`` block; buffers of the network do not
        see it.
        """

    def add_combination(self, combine: Callable[[Tensor], Tensor]) -> None:
        """Add ``combine(jacobian)``, (K, P) -> (P,), to ``.grad`` of the shared parameters, at the
        engine's scale.

        The Jacobian is the one that :meth:`backward` and :meth:`task_gradient_change` have left.
        """
