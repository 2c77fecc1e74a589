"""What may enter a method, and what may leave it.

Tensors are looked at where they already are: a Gramian is solved on the host and is always checked; a Jacobian or losses on an
accelerator are not, because reading them would cost a synchronisation in every step. There NaN passes through to the update.
"""

import math

import torch
from torch import Tensor


def check_gramian(gramian: Tensor) -> Tensor:
    """The (K, K) Gramian as a float64 tensor on the CPU.

    Raises:
        ValueError: If it is not square, has no task, or holds NaN, infinity or a negative squared norm.
    """
    if gramian.ndim != 2 or gramian.shape[0] != gramian.shape[1] or gramian.shape[0] == 0:
        raise ValueError(f"Gramian must be a square (K, K) matrix of at least one task, got shape {tuple(gramian.shape)}")
    gramian = gramian.detach().to("cpu", torch.float64)
    if not math.isfinite(gramian.sum().item()):
        # A bad gradient spoils its whole row and column, so its own squared norm tells whose it is.
        bad = _not_finite(gramian.diagonal()) or _not_finite(gramian.sum(dim=1))
        if bad:
            raise ValueError(f"Gramian holds NaN or infinity: look at the gradient of task index {_listed(bad)}")
    if gramian.diagonal().min().item() < 0:
        bad = (gramian.diagonal() < 0).nonzero().flatten().tolist()
        raise ValueError(f"Gramian has a negative squared norm on its diagonal, at task index {_listed(bad)}")
    return gramian


def check_jacobian(jacobian: Tensor) -> None:
    """Refuse a Jacobian that is not a floating (K, P) matrix of finite numbers (values are looked at on the CPU only)."""
    if jacobian.ndim != 2 or jacobian.shape[0] == 0 or not jacobian.is_floating_point():
        raise ValueError(
            f"Jacobian must be a floating-point (K, P) matrix of at least one task, "
            f"got shape {tuple(jacobian.shape)} of {jacobian.dtype}"
        )
    # The sum is one cheap pass; only where it is not finite is every entry looked at (finite entries can overflow it).
    if jacobian.device.type == "cpu" and not math.isfinite(jacobian.sum().item()):
        bad = (~jacobian.isfinite().all(dim=1)).nonzero().flatten().tolist()
        if bad:
            raise ValueError(f"Jacobian holds NaN or infinity: look at the gradient of task index {_listed(bad)}")


def check_losses(losses: Tensor, tasks: int | None = None) -> None:
    """Refuse losses that are not a vector of finite numbers, one a task (values are looked at on the CPU only)."""
    if losses.ndim != 1 or losses.shape[0] == 0:
        raise ValueError(f"losses must be a vector of one number a task, got shape {tuple(losses.shape)}")
    if tasks is not None and losses.shape[0] != tasks:
        raise ValueError(f"losses must hold one number a task: got {losses.shape[0]} for {tasks} tasks")
    if losses.device.type == "cpu" and (bad := _not_finite(losses.detach())):
        raise ValueError(f"losses hold NaN or infinity at task index {_listed(bad)}")


def check_weights(weights: Tensor, tasks: int, method: object) -> None:
    """Refuse weights that are not one finite number a task (values are looked at on the CPU only)."""
    if weights.shape != (tasks,):
        raise ValueError(f"{method} returned weights of shape {tuple(weights.shape)} for {tasks} tasks")
    if weights.device.type == "cpu" and (bad := _not_finite(weights.detach())):
        raise ValueError(f"{method} returned NaN or infinity as the weight of task index {_listed(bad)}")


def check_number(method: str, name: str, value: float, low: float = -math.inf, high: float = math.inf) -> float:
    """The hyperparameter as a float, if it is a finite number in [low, high].

    Raises:
        ValueError: Naming the method, the hyperparameter, the allowed range and the value.
    """
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not low <= value <= high:
        if math.isinf(low) and math.isinf(high):
            allowed = "a finite number"
        elif math.isinf(high):
            allowed = f"a finite number >= {low:g}"
        else:
            allowed = f"a number in [{low:g}, {high:g}]"
        raise ValueError(f"{method}: {name} must be {allowed}, got {value!r}")
    return float(value)


def _not_finite(vector: Tensor) -> list[int]:
    return [index for index, value in enumerate(vector.tolist()) if not math.isfinite(value)]


def _listed(indices: list[int]) -> str:
    return ", ".join(map(str, indices))
