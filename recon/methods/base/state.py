"""Methods that remember something from step to step."""

from abc import abstractmethod
from collections.abc import Iterator
from itertools import chain
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from recon.errors import number_of
from recon.methods.base.grouped import WeighsGroups, bound_groups, state_of_groups
from recon.methods.base.method import Method
from recon.methods.base.present import BufferRows, ParameterRows, Present, Scalar, TaskRows
from recon.methods.base.task_scalars import ScalarsOfTasks, TaskScalars


class StatefulMethod(Method):
    """Mixin for methods that keep something of each task from step to step.

    Subclasses write :meth:`make_state`. State loads from a checkpoint into a method that is bound
    to its tasks, or to no tasks yet.

    Attributes:
        tasks: K, or ``None`` before the method is bound; in a block of :meth:`among` the number of
            present tasks.
        pairwise: Names of the buffers with the K tasks as first and second dimension; to be set,
            if only to ``()``, where :meth:`make_state` makes a buffer of K x K numbers.

    Example:
        >>> import torch
        >>> from recon.methods import JacobianMethod
        >>> class Smoothed(StatefulMethod, JacobianMethod):
        ...     def make_state(self, tasks):
        ...         self.register_buffer("gradients", torch.zeros(tasks, 0))
        ...     def combine(self, jacobian, losses=None):
        ...         return self.tracked("gradients", jacobian).lerp_(jacobian, 0.5).sum(dim=0)
        >>> method = Smoothed()
        >>> method.combine(torch.tensor([[4.0, 0.0], [-1.0, 2.0]]))
        tensor([1.5000, 1.0000])
        >>> method.combine(torch.tensor([[4.0, 0.0], [-1.0, 2.0]]))
        tensor([2.2500, 1.5000])
    """

    pairwise: ClassVar[tuple[str, ...] | None] = None

    def __init__(self) -> None:
        super().__init__()
        self.tasks: int | None = None
        self._made: frozenset[str] = frozenset()  # names of what make_state made
        self._square: tuple[str, ...] = ()  # those of K x K numbers

    @abstractmethod
    def make_state(self, tasks: int) -> None:
        """Register buffers and parameters: scalars, or with the K tasks as first dimension.

        A buffer of the Jacobian's shape is registered empty, (K, 0), and read by :meth:`tracked`.
        """

    def bind(self, tasks: int) -> None:
        """Make the state of K tasks.

        Raises:
            ValueError: The method already serves another number of tasks.
        """
        if self.tasks is None:
            earlier = frozenset(self._tensor_names())
            self.make_state(tasks)
            self.tasks = tasks
            self._made = frozenset(self._tensor_names()) - earlier
            made = ((name, buffer) for name, buffer in self.named_buffers() if name in self._made)
            self._square = tuple(name for name, buffer in made if buffer.shape == (tasks, tasks))
        elif self.tasks != tasks:
            raise ValueError(
                f"{self} has the state of {number_of(self.tasks, 'task')}, got {tasks}; create a new method for these"
            )

    def number_of_tasks(self) -> int | None:
        return self.tasks

    def task_rows(self) -> list[TaskRows]:
        if self.tasks is None:
            raise ValueError(f"{self} has no state of its tasks yet; call bind(tasks) before it is among some of them")
        if self.pairwise is None and self._square:
            raise ValueError(
                f"{type(self).__name__} keeps {self._square[0]!r} of {self.tasks} x {self.tasks} numbers: for a step "
                f"with some of the tasks, say whether tasks are the second dimension too: pairwise = "
                f"({self._square[0]!r},) in the class, or pairwise = ()"
            )
        state = chain.from_iterable(self._state_rows(prefix, module) for prefix, module in _own_modules(self))
        return [*super().task_rows(), _Count(self), *state]

    def _state_rows(self, prefix: str, module: nn.Module) -> Iterator[TaskRows]:
        """The state that :meth:`make_state` made in one module."""
        if isinstance(module, TaskScalars):
            yield ScalarsOfTasks(module)
            return
        for name, _ in module.named_buffers(recurse=False):
            if prefix + name in self._made:
                yield self._buffer_rows(module, name, prefix + name)
        for name, parameter in module.named_parameters(recurse=False):
            if prefix + name in self._made and parameter.ndim:
                yield ParameterRows(module, name)

    def _buffer_rows(self, module: nn.Module, name: str, whole_name: str) -> TaskRows:
        grouped = bound_groups(self) is not None and (module, name) in state_of_groups(self)
        if module.get_buffer(name).ndim == int(grouped):
            return Scalar(module, name)
        return BufferRows(module, name, whole_name in (self.pairwise or ()), grouped)

    def _tensor_names(self) -> Iterator[str]:
        """Names of buffers and parameters, without those of methods inside this one."""
        for prefix, module in _own_modules(self):
            yield from (prefix + name for name in (*module._buffers, *module._parameters))

    def tracked(self, name: str, jacobian: Tensor) -> Tensor:
        """Return the named buffer in the shape of the (K, P) Jacobian; zeros when first read.

        Raises:
            ValueError: The buffer already has another shape.
        """
        buffer = self.get_buffer(name)
        if buffer.numel() == 0:
            buffer = torch.zeros_like(jacobian)
        elif buffer.shape != jacobian.shape:
            raise ValueError(
                f"{self} tracks gradients of {buffer.shape[1]} parameters, got {jacobian.shape[1]}; "
                "create a new method when the shared parameters change"
            )
        setattr(self, name, buffer.to(jacobian))
        return self.get_buffer(name)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        saved = {key.removeprefix(prefix): value for key, value in state_dict.items() if key.startswith(prefix)}
        if self.tasks is None and (tasks := _tasks_of(saved)) is not None:
            self.bind(tasks)
        if isinstance(self, WeighsGroups) and "groups" in saved:
            self.bind_groups(int(saved["groups"]))
        for name, buffer in self.named_buffers():
            if name in saved and saved[name].ndim == 0 and buffer.ndim == 1:  # once one number for all tasks
                state_dict[prefix + name] = saved[name].expand(len(buffer)).clone()
        for name, buffer in self.named_buffers(recurse=False):
            if name in saved and 0 in (buffer.numel(), saved[name].numel()):
                setattr(self, name, torch.zeros_like(saved[name], device=buffer.device))
        super()._load_from_state_dict(state_dict, prefix, *args)


class _Count:
    """The number of tasks of a method."""

    def __init__(self, method: StatefulMethod) -> None:
        self.method = method

    def narrow(self, present: Present) -> None:
        self._all = self.method.tasks
        self.method.tasks = len(present)

    def widen(self, keep: bool) -> None:
        self.method.tasks = self._all


def _own_modules(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The module and the modules inside it, by prefix of their names; without methods inside."""
    yield prefix, module
    for name, child in module.named_children():
        if not isinstance(child, Method):
            yield from _own_modules(child, f"{prefix}{name}.")


def _tasks_of(saved: dict[str, Any]) -> int | None:
    """The number of tasks of a saved state, whose tensors may begin with a dimension of groups."""
    before = 1 if "groups" in saved else 0
    tensors = [value for key, value in saved.items() if not key.endswith("_extra_state")]
    return next((value.shape[before] for value in tensors if value.ndim > before), None)
