"""Hyperparameters with one number per task, such as a preference or a lower bound of each loss."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from recon.errors import number_of
from recon.methods.base.hyperparameters import check_number
from recon.methods.base.method import Method
from recon.methods.base.present import NumbersOfTasks, TaskRows
from recon.methods.base.registry import registered_name


class PerTaskMethod(Method):
    """Mixin for methods with hyperparameters of one number per task.

    Before the first step it checks that each has as many numbers as there are tasks.

    Attributes:
        per_task: Names of the hyperparameters.
    """

    per_task: ClassVar[tuple[str, ...]] = ("preference",)

    def bind(self, tasks: int) -> None:
        """Set the number of tasks.

        Raises:
            ValueError: A hyperparameter holds numbers for another number of tasks.
        """
        for name in self.per_task:
            values = getattr(self, name)
            if values is not None and len(values) != tasks:
                raise ValueError(
                    f"{registered_name(type(self))}: {name} holds {number_of(len(values), 'number')} for "
                    f"{number_of(tasks, 'task')}; give one number a task"
                )
        super().bind(tasks)

    def number_of_tasks(self) -> int | None:
        given = (len(values) for name in self.per_task if (values := getattr(self, name)) is not None)
        return next(given, super().number_of_tasks())

    def task_rows(self) -> list[TaskRows]:
        return [*super().task_rows(), *(NumbersOfTasks(self, name) for name in self.per_task)]


def check_numbers(
    method: str, name: str, values: Sequence[float] | Tensor | np.ndarray | None, low: float
) -> list[float] | None:
    """Return the hyperparameter as a list of finite floats >= low; ``None`` stays ``None``.

    Args:
        method: Name of the method, for the error.
        name: Name of the hyperparameter, for the error.
        values: One number per task: a sequence, or a vector of PyTorch or NumPy.
        low: Lower bound.

    Raises:
        ValueError: The values are none of these, or a number is out of range; the error names the
            method, the hyperparameter, the value and the range.
    """
    if values is None:
        return None
    numbers = values.tolist() if isinstance(values, Tensor | np.ndarray) else values
    if isinstance(numbers, str | bytes) or not isinstance(numbers, Sequence):
        raise ValueError(f"{method}: {name} must be a list of one number a task, got {values!r}")
    return [check_number(method, f"{name}[{i}]", value, low=low) for i, value in enumerate(numbers)]


def numbers_like(losses: Tensor, values: Sequence[float] | None, default: float) -> Tensor:
    """The (K,) values of a hyperparameter on the losses' device, or the default for every task."""
    if values is None:
        return torch.full_like(losses, default)
    # A tensor made from a list would wait for an accelerator; single fills do not.
    return torch.stack([losses.new_full((), value) for value in values])
