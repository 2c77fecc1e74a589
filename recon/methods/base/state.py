"""Methods that remember something from step to step."""

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from recon.methods.base.method import Method


class StatefulMethod(Method):
    """Mixin for methods that keep something of each task from step to step.

    Subclasses write :meth:`make_state`. State loads from a checkpoint into a method that is bound
    to its tasks, or to no tasks yet.

    Attributes:
        tasks: K, or ``None`` before the method is bound.

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

    def __init__(self) -> None:
        super().__init__()
        self.tasks: int | None = None

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
            self.make_state(tasks)
            self.tasks = tasks
        elif self.tasks != tasks:
            raise ValueError(f"{self} has the state of {self.tasks} tasks, got {tasks}; create a new method for these")

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
        per_task = [value for key, value in saved.items() if not key.endswith("_extra_state") and value.ndim > 0]
        if self.tasks is None and per_task:
            self.bind(len(per_task[0]))
        for name, buffer in self.named_buffers(recurse=False):
            if name in saved and 0 in (buffer.numel(), saved[name].numel()):
                setattr(self, name, torch.zeros_like(saved[name], device=buffer.device))
        super()._load_from_state_dict(state_dict, prefix, *args)
