"""Hyperparameters that hold one number a task, such as a preference among the tasks or a lower bound of each loss."""

from collections.abc import Sequence

import torch
from torch import Tensor

from recon.methods.checks import check_number


def check_numbers(method: str, name: str, values: Sequence[float] | None, low: float) -> list[float] | None:
    """The hyperparameter as a list of floats, if each is a finite number >= low; ``None`` stays ``None``.

    Raises:
        ValueError: One is not; the error names the method, the hyperparameter and the allowed range.
    """
    if values is None:
        return None
    return [check_number(method, f"{name}[{i}]", value, low=low) for i, value in enumerate(values)]


def numbers_like(losses: Tensor, method: str, name: str, values: Sequence[float] | None, default: float) -> Tensor:
    """The (K,) values of such a hyperparameter on the losses' device, the default for every task if there are none.

    Raises:
        ValueError: There are values for another number of tasks.
    """
    if values is None:
        return torch.full_like(losses, default)
    if len(values) != losses.shape[0]:
        raise ValueError(
            f"{method}: {name} holds {len(values)} numbers for {losses.shape[0]} tasks; give one number a task"
        )
    # Filled one by one: on an accelerator, a tensor made from a list would wait for the device.
    return torch.stack([losses.new_full((), value) for value in values])


def preference_like(losses: Tensor, method: str, values: Sequence[float] | None) -> Tensor:
    """The (K,) preference on the losses' device; 1/K each if there is none."""
    return numbers_like(losses, method, "preference", values, default=1 / losses.shape[0])
