"""The part of the engine that a method may use in its own ``step``."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, TypeVar

from torch import Tensor, nn

from recon.gradients.sharded import Gradients


class StepRecord(Protocol):
    """The record of one backward (:class:`recon.StepInfo`), as far as methods read it.

    Attributes:
        losses: Present task -> detached loss.
        overflow: Whether a value overflowed float16, so that the step is skipped.
    """

    losses: dict[str, Tensor]
    overflow: bool


Info = TypeVar("Info", bound=StepRecord)
InfoOut = TypeVar("InfoOut", bound=StepRecord, covariant=True)

Closure = Callable[..., Mapping[str, Tensor]]
"""``closure(batch=None) -> {task: loss}``: evaluates the batch at hand, or another one."""


class StepEngine(Protocol[InfoOut]):
    """The engine within a step: gradients for every evaluation that a method asks for.

    Hand over the losses as the closure returned them: they may carry the features that a method at
    the representation needs.

    Example:
        A method that looks at the losses after each step. :meth:`loss_values` refuses values that
        are not finite.

        >>> import torch, recon
        >>> class Watchful(recon.methods.Constant):
        ...     evaluates_again = True
        ...     def step(self, engine, closure, optimizer):
        ...         info = super().step(engine, closure, optimizer)
        ...         self.after = engine.loss_values(closure())
        ...         return info
        >>> shared, method = torch.nn.Linear(2, 1), Watchful()
        >>> def closure(batch=torch.ones(1, 2)):
        ...     return {"a": shared(batch).square().sum(), "b": (shared(batch) - 1).square().sum()}
        >>> engine = recon.Engine(shared, ["a", "b"], method)
        >>> info = engine.step(closure, torch.optim.SGD(shared.parameters(), lr=0.01))
        >>> bool(method.after.sum() < sum(info.losses.values()))
        True
    """

    overflowed: bool
    """Whether a value overflowed float16 outside of :meth:`backward`; the step is then skipped."""

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the K tasks."""

    @property
    def gradients(self) -> Gradients:
        """The buffer of task gradients, as the latest :meth:`backward` filled it."""

    def backward(self, losses: Mapping[str, Tensor], representation: Tensor | None = None) -> InfoOut:
        """Add the method's update to ``.grad`` of the shared parameters.

        Each task's gradient is added to ``.grad`` of the task's own parameters.

        Args:
            losses: Task -> scalar loss with a graph, which is freed.
            representation: The features that all heads took, if the losses do not carry them.

        Returns:
            The record of the step.
        """

    def own_parameters(self, loss: Tensor) -> list[nn.Parameter]:
        """The parameters of a task's head and branches, which its loss reaches."""

    def own_gradients(self, losses: Mapping[str, Tensor]) -> list[tuple[list[nn.Parameter], list[Tensor]]]:
        """For each task its :meth:`own_parameters` and the gradients of its loss in them.

        The graph is kept, and ``.grad`` stays as it is.
        """

    def validation(self) -> Mapping[str, Tensor]:
        """Task -> loss of a validation batch, with a graph.

        Raises:
            ValueError: The step has none.
        """

    def task_gradients(self, losses: Mapping[str, Tensor]) -> dict[str, dict[Tensor, Tensor]]:
        """Task -> the gradient of its loss in each parameter that it reaches, shared or its own.

        The graph is kept, and ``.grad`` stays as it is.

        Raises:
            ValueError: A gradient on the CPU is not finite. In float16 the step counts as one that
                overflows instead.
        """

    def weighted_gradient(self, losses: Mapping[str, Tensor], weights: Tensor) -> dict[Tensor, Tensor]:
        """The gradient of a weighted sum of the losses, in each parameter that it reaches.

        One backward. The graph is kept, and ``.grad`` stays as it is.

        Args:
            losses: Task -> scalar loss with a graph.
            weights: (K',), one for each of these tasks, in task order.

        Raises:
            ValueError: As :meth:`task_gradients`.
        """

    def add_to_grad(self, gradients: Mapping[Tensor, Tensor]) -> None:
        """Add gradients to ``.grad`` of parameters, shared or a task's own, after ``backward``.

        The engine's scale multiplies it.

        Args:
            gradients: Parameter -> a tensor in its shape.
        """

    def task_gradient(self, task: str, losses: Mapping[str, Tensor]) -> None:
        """Replace a task's row of the Jacobian by the gradient of its loss, in one backward.

        The task's own parameters receive their gradient in ``.grad``; ``.grad`` of the shared
        parameters stays.

        Args:
            task: Name of the task.
            losses: Task -> scalar loss with a graph; the graph of this task is freed.
        """

    def task_gradient_change(self, task: str, losses: Mapping[str, Tensor]) -> None:
        """Replace a task's row of the Jacobian by the change of its gradient, in one backward.

        The task's own parameters receive their gradient in ``.grad``; ``.grad`` of the shared
        parameters stays.

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
        """Views of a (P,) row of the Jacobian in the shapes of ``gradients.parameters``."""

    def perturbed(self, parameters: Sequence[Tensor], steps: Sequence[Tensor]) -> AbstractContextManager[None]:
        """Move parameters for a ``with`` block; running statistics do not see it.

        Args:
            parameters: The parameters to move.
            steps: One for each parameter, in its shape.
        """

    def add_combination(self, combine: Callable[[Tensor], Tensor]) -> None:
        """Add ``combine(jacobian)``, (K, P) -> (P,), to ``.grad`` of the shared parameters.

        The engine's scale multiplies it. The Jacobian is the one that :meth:`backward`,
        :meth:`task_gradient` and :meth:`task_gradient_change` left.
        """
