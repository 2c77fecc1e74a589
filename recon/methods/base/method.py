"""The base of multi-task optimizers, which turn task gradients and losses into one update.

There are three kinds (see ``kinds``): a method needs the K x K Gramian of the task gradients, the K
x P Jacobian itself, or only the K losses. A new method subclasses one kind and writes one function,
whose arguments and result are checked.
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor, nn

from recon.errors import number_of
from recon.gradients.precision import widest_dtype
from recon.methods.base.present import Present, TaskRows, check_present, only_present
from recon.methods.base.step_engine import Closure, Info, StepEngine


class Method(nn.Module, ABC):
    """Base of all methods.

    Buffers are the state of a method, and parameters are learnable. Both are in the checkpoint, and
    the optimizer trains the parameters, as of any module.

    Attributes:
        scale: The combination of K equal task gradients g: about K g (``"sum"``) or about g
            (``"mean"``).
        evaluates_again: Whether the method works only through :meth:`step`, which evaluates the
            losses more than once.
        needs_all_tasks: Whether a step among some of the tasks has no meaning.
        needs_one_process: Whether the method cannot work in several processes.
        needs_validation: Whether each step needs a validation batch beside the training batch.

    Example:
        >>> from recon import create_method
        >>> method = create_method("cagrad", c=0.4)
        >>> method, method.scale, method.evaluates_again
        (CAGrad(c=0.4, rescale=1), 'mean', False)
    """

    scale: ClassVar[Literal["sum", "mean"]] = "mean"
    evaluates_again: ClassVar[bool] = False
    needs_all_tasks: ClassVar[bool] = False
    needs_one_process: ClassVar[bool] = False
    needs_validation: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__()
        self._present: Present | None = None  # in a block of among()
        self._doubles: set[str] = set()  # buffers that stay float64 on every device that has it

    @abstractmethod
    def combine(self, jacobian: Tensor, losses: Tensor | None = None) -> Tensor:
        """Combine the task gradients into one update direction.

        Args:
            jacobian: (K, P), one task gradient per row.
            losses: (K,), for methods that need them.

        Returns:
            (P,), in the Jacobian's dtype and on its device.

        Raises:
            ValueError: The Jacobian or the losses have another shape, or are not finite.
        """

    def bind(self, tasks: int) -> None:
        """Set the number of tasks before the first step.

        :class:`recon.Engine` and ``MultiTaskModule`` call this. A method that keeps something of
        each task makes it here (see :class:`StatefulMethod`), in time for the optimizer and the
        checkpoint. Other methods do nothing.
        """

    @property
    def accumulates(self) -> bool:
        """Whether a step may follow from several batches, whose gradients were summed.

        A method with a :meth:`step` of its own evaluates one batch again.
        """
        return not self.evaluates_again and type(self).step is Method.step

    def among(self, present: Sequence[int]) -> AbstractContextManager[None]:
        """Be the method of some tasks alone, for a ``with`` block.

        State and hyperparameters of a task are then those of the present tasks, in their order. The
        state of absent tasks stands still. Numbers that are not of a task, such as a count of
        steps, go on. After an error in the block the state is as before.

        Args:
            present: Indices of the present tasks, ascending; all tasks change nothing.

        Raises:
            ValueError: The indices do not ascend, or are out of range; or the method is not bound
                to its tasks yet.

        Example:
            >>> import torch
            >>> from recon import create_method
            >>> method = create_method("constant", factors=[1.0, 2.0, 3.0])
            >>> with method.among([0, 2]):
            ...     method.combine(torch.eye(2))
            tensor([1., 3.])
        """
        methods = [module for module in self.modules() if isinstance(module, Method)]
        tasks = next((known for method in methods if (known := method.number_of_tasks()) is not None), None)
        present = check_present(present, tasks)
        if len(present) == tasks or (tasks is None and present == (0,)):  # a single task needs no state
            return nullcontext()
        return only_present(methods, present)

    def number_of_tasks(self) -> int | None:
        """K, as far as the method's state or hyperparameters tell it."""
        return None

    def task_rows(self) -> list[TaskRows]:
        """The parts of the method that have one row per task, for :meth:`among`.

        The state that ``make_state`` made, and the hyperparameters ``per_task``, are among them. A
        method that keeps something of each task elsewhere adds it.
        """
        return []

    def _serve(self, tasks: int) -> None:
        """Bind the method to the tasks whose gradients or losses it gets.

        Raises:
            ValueError: It serves another number of tasks.
        """
        if self._present is None:
            self.bind(tasks)
        elif tasks != len(self._present):
            raise ValueError(f"{self} is among {number_of(len(self._present), 'present task')}, got {tasks}")

    def end_epoch(self) -> None:
        """Record that an epoch of training is over; most methods do nothing.

        ``MultiTaskModule`` calls this. In a training loop of your own, call it after each epoch.
        """

    def step(self, engine: StepEngine[Info], closure: Closure, optimizer: torch.optim.Optimizer) -> Info:
        """Make one training step; methods that evaluate the losses more than once override this.

        Args:
            engine: The :class:`recon.Engine` within the step: it turns losses into gradients.
            closure: Evaluates the batch at hand and returns task -> loss.
            optimizer: Steps along the gradients.

        Returns:
            What the engine's ``backward`` returns.
        """
        optimizer.zero_grad()
        info = engine.backward(closure())
        optimizer.step()
        return info

    def reseed(self, seed: int) -> None:
        """Restart the method's randomness; a method without randomness does nothing."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move with the network, but keep the precision of buffers.

        Sums over many steps would stall in bfloat16.
        """
        before = dict(self.named_buffers())
        self._doubles |= {name for name, buffer in before.items() if buffer.dtype == torch.float64}
        super()._apply(_as_the_device_allows(fn), recurse)
        for name, buffer in before.items():
            owner, _, own_name = name.rpartition(".")
            module = self.get_submodule(owner)
            moved = module.get_buffer(own_name)
            dtype = widest_dtype(moved.device) if name in self._doubles else buffer.dtype
            setattr(module, own_name, self._kept(buffer, moved, dtype))
        return self

    def _kept(self, buffer: Tensor, moved: Tensor, dtype: torch.dtype) -> Tensor:
        """The buffer to keep, in this dtype, after a buffer was moved and cast."""
        if moved.dtype == dtype or buffer.is_meta:
            return moved.to(dtype)
        return buffer.to(moved.device, dtype)

    def extra_repr(self) -> str:
        names = [name for name in inspect.signature(type(self)).parameters if hasattr(self, name)]
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in names)


def _as_the_device_allows(fn: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """A move of tensors that takes float64 as float32 to devices without float64."""

    def moved(tensor: Tensor) -> Tensor:
        if tensor.dtype != torch.float64:
            return fn(tensor)
        there = fn(tensor.new_empty(0, dtype=torch.float32)).device
        return fn(tensor.to(widest_dtype(there)))

    return moved
