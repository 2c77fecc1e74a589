"""The part of the engine that a method may use in its own ``step``."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, TypeVar

from torch import Tensor, nn

from recon.gradients.buffer import TaskGradients


class StepRecord(Protocol):
    """The knowledge of the engine after a backward (:class:`recon.StepInfo`).

    Attributes:
        losses: Task -> detached loss.
    """

    losses: dict[str, Tensor]


Info = TypeVar("Info", bound=StepRecord)
InfoOut = TypeVar("InfoOut", bound=StepRecord, covariant=True)

Closure = Callable[..., Mapping[str, Tensor]]
"""``closure(batch=None) -> {task: loss}`` evaluates the batch at hand, or another one."""


class StepEngine(Protocol[InfoOut]):
    """The engine within a step, which turns losses into gradients as often as the method evaluates.

    Losses are passed on as the closure returned them, because they may carry the features with
    them.
    """

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the K tasks."""

    @property
    def gradients(self) -> TaskGradients:
        """The buffer of task gradients, as the latest :meth:`backward` filled it."""

    def backward(self, losses: Mapping[str, Tensor], representation: Tensor | None = None) -> InfoOut:
        """Add the method's update to ``.grad`` of the shared parameters.

        Each task's gradient is added to ``.grad`` of the task's own parameters.

        Args:
            losses: Task -> scalar loss with a graph, which is freed.
            representation: The features that all heads took, if the losses do not carry them.
        """

    def own_parameters(self, loss: Tensor) -> list[nn.Parameter]:
        """The parameters of a task's head and branches, found from the task's loss."""

    def own_gradients(self, losses: Mapping[str, Tensor]) -> list[tuple[list[nn.Parameter], list[Tensor]]]:
        """For each task its :meth:`own_parameters` and their gradients; the graph is kept."""

    def task_gradient_change(self, task: str, losses: Mapping[str, Tensor]) -> None:
        """Replace a task's row of the Jacobian by the change of its gradient since then.

        It takes one backward. The task's own parameters receive their gradient in ``.grad``;
        ``.grad`` of the shared parameters stays.

        Args:
            task: Name of the task.
            losses: Task -> scalar loss with a graph; the graph of this task is freed.
        """

    def loss_values(self, losses: Mapping[str, Tensor]) -> Tensor:
        """The losses (K,) of an evaluation after :meth:`backward`, detached, in task order.

        Raises:
            ValueError: A loss is missing, unknown, no scalar, or not finite.
        """

    def like_parameters(self, flat: Tensor) -> list[Tensor]:
        """A (P,) row of the Jacobian as views in the shapes of ``gradients.parameters``."""

    def perturbed(self, parameters: Sequence[Tensor], steps: Sequence[Tensor]) -> AbstractContextManager[None]:
        """Move parameters by steps of their shapes for a ``with`` block.

        Buffers of the network do not change with the block.
        """

    def add_combination(self, combine: Callable[[Tensor], Tensor]) -> None:
        """Add ``combine(jacobian)``, (K, P) -> (P,), to ``.grad`` of the shared parameters.

        The sum is scaled as the engine scales updates. The Jacobian is the one that
        :meth:`backward` and :meth:`task_gradient_change` left.
        """
