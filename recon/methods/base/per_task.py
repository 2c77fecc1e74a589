"""Hyperparameters that hold one number a task, such as a preference among the tasks or a lower bound
of each loss.
"""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from recon.methods.base.hyperparameters import check_number
from recon.methods.base.method import Method
from recon.methods.base.registry import registered_name


class PerTaskMethod(Method):
    """Mixin for methods with such hyperparameters: says before the first step if they are for other
    tasks.

    Attributes:
        per_task: Names of the hyperparameters.
    """

    per_task: ClassVar[tuple[str, ...]] = ("preference",)

    def bind(self, tasks: int) -> None:
        """Learn the number of tasks.

        Raises:
            ValueError: A hyperparameter holds numbers for another number of tasks.
        """
        for name in self.per_task:
            values = getattr(self, name)
            if values is not None and len(values) != tasks:
                raise ValueError(
                    f"{registered_name(type(self))}: {name} holds {len(values)} numbers for {tasks} tasks; "
                    "give one number a task"
                )
        super().bind(tasks)


def check_numbers(
    method: str, name: str, values: Sequence[float] | Tensor | np.ndarray | None, low: float
) -> list[float] | None:
    """The hyperparameter as a list of floats, if each is a finite number >= low; ``None`` stays
    ``None``.

    Args:
        method: Name of the method, for the error.
        name: Name of the hyperparameter, for the error.
        values: One number a task: a sequence, or a vector of PyTorch or NumPy.
        low: The least that is allowed.

    Raises:
        ValueError: It is none of these, or a number is not allowed; the error names the method, the
            hyperparameter, the value and the allowed range.
    """
    if values is None:
        return None
    numbers = values.tolist() if isinstance(values, Tensor | np.ndarray) else values
    if isinstance(numbers, str | bytes) or not isinstance(numbers, Sequence):
        raise ValueError(f"{method}: {name} must be a list of one number a task, got {values!r}")
    return [check_number(method, f"{name}[{i}]", value, low=low) for i, value in enumerate(numbers)]


def numbers_like(losses: Tensor, values: Sequence[float] | None, default: float) -> Tensor:
    """The (K,) values of such a hyperparameter on the losses' device, the default for every task if
    there are none.
    """
    if values is None:
        return torch.full_like(losses, default)
    # Filled one by one: on an accelerator, a tensor made from a list would wait for the device.
    return torch.stack([losses.new_full((), value) for value in values])
