"""Checks of the tensors that enter and leave a method.

Checks read tensors only where they already are. A Gramian is solved on the host and is always
checked. A Jacobian or losses on an accelerator are checked by shape alone, because reading them
would stall every step; NaN there passes through to the update.
"""

import math

import torch
from torch import Tensor

from recon.errors import number_of


def check_gramian(gramian: Tensor) -> Tensor:
    """Return the (K, K) Gramian as a float64 tensor on the CPU.

    Raises:
        ValueError: The Gramian is not square, has no task, or holds NaN, infinity or a negative
            squared norm.
    """
    if gramian.ndim != 2 or gramian.shape[0] != gramian.shape[1] or gramian.shape[0] == 0:
        raise ValueError(f"Gramian must be a (K, K) matrix with K >= 1, got shape {tuple(gramian.shape)}")
    if gramian.is_complex():
        raise ValueError("Gramian is complex; of complex gradients give the real inner products Re <g, h>")
    gramian = gramian.detach().to("cpu", torch.float64)
    values = gramian.numpy()  # torch's own reductions would slow the solvers by 40 µs per step
    if not math.isfinite(values.sum()):
        # A bad gradient spoils its whole row and column; its own squared norm tells the task.
        bad = _not_finite(gramian.diagonal()) or _not_finite(gramian.sum(dim=1))
        if bad:
            raise ValueError(f"Gramian holds NaN or infinity: look at the gradient of task index {_listed(bad)}")
    if values.diagonal().min() < 0:
        bad = [index for index, value in enumerate(gramian.diagonal().tolist()) if value < 0]
        raise ValueError(f"Gramian has a negative squared norm on its diagonal at task index {_listed(bad)}")
    return gramian


class naming_group:
    """Add the index of a group of layers to errors of a method, in a ``with`` block."""

    def __init__(self, group: int) -> None:
        self.group = group

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if error is not None and type(error) in (ValueError, RuntimeError):
            raise type(error)(f"group index {self.group}: {error}") from error


def check_gramians(gramians: Tensor) -> Tensor:
    """Return the (G, K, K) Gramians of groups of layers as a float64 tensor on the CPU.

    Raises:
        ValueError: They have another shape, or one is refused by :func:`check_gramian`.
    """
    if gramians.ndim != 3 or 0 in gramians.shape:
        raise ValueError(
            f"Gramians of groups must be (G, K, K) with G >= 1 and K >= 1, got shape {tuple(gramians.shape)}"
        )
    if gramians.is_complex() or gramians.shape[1] != gramians.shape[2]:
        check_gramian(gramians[0])
    gramians = gramians.detach().to("cpu", torch.float64)
    values = gramians.numpy()
    if not math.isfinite(values.sum()) or values.diagonal(axis1=1, axis2=2).min() < 0:
        for group, gramian in enumerate(gramians):
            with naming_group(group):
                check_gramian(gramian)
    return gramians


def check_jacobian(jacobian: Tensor) -> None:
    """Raise a ValueError unless the Jacobian is a (K, P) matrix of finite numbers.

    On an accelerator only its shape is checked.
    """
    if jacobian.ndim != 2 or jacobian.shape[0] == 0 or not jacobian.is_floating_point():
        raise ValueError(
            f"Jacobian must be a floating-point (K, P) matrix with K >= 1, "
            f"got shape {tuple(jacobian.shape)} of {jacobian.dtype}"
        )
    # The sum is one cheap pass. Every entry is checked only if the sum is not finite, since finite
    # entries can overflow it.
    if jacobian.device.type == "cpu" and not math.isfinite(jacobian.detach().sum().item()):
        bad = (~jacobian.detach().isfinite().all(dim=1)).nonzero().flatten().tolist()
        if bad:
            raise ValueError(f"Jacobian holds NaN or infinity: look at the gradient of task index {_listed(bad)}")


def check_losses(losses: Tensor, tasks: int | None = None) -> None:
    """Raise a ValueError unless losses are one finite number per task.

    On an accelerator only their shape is checked.
    """
    if losses.ndim != 1 or losses.shape[0] == 0:
        raise ValueError(f"losses must be a vector of one number a task, got shape {tuple(losses.shape)}")
    if tasks is not None and losses.shape[0] != tasks:
        raise ValueError(f"losses must hold one number a task: got {losses.shape[0]} for {number_of(tasks, 'task')}")
    if losses.device.type == "cpu" and (bad := _not_finite(losses)):
        raise ValueError(f"losses hold NaN or infinity at task index {_listed(bad)}")


def check_weights(weights: Tensor, tasks: int, method: object) -> None:
    """Raise an error unless weights are one finite number per task.

    On an accelerator only their shape is checked.
    """
    if not isinstance(weights, Tensor):
        raise TypeError(f"{method} returned weights as {type(weights).__name__}, not as a tensor")
    if weights.shape != (tasks,):
        raise ValueError(f"{method} returned weights of shape {tuple(weights.shape)} for {number_of(tasks, 'task')}")
    if weights.device.type == "cpu" and (bad := _not_finite(weights)):
        raise ValueError(f"{method} returned NaN or infinity as weight of task index {_listed(bad)}")


def check_weights_of_groups(weights: Tensor, groups: int, tasks: int, method: object) -> None:
    """Raise an error unless weights are one finite number per group and task."""
    if not isinstance(weights, Tensor):
        raise TypeError(f"{method} returned weights as {type(weights).__name__}, not as a tensor")
    if weights.shape != (groups, tasks):
        raise ValueError(
            f"{method} returned weights of shape {tuple(weights.shape)} for {number_of(groups, 'group')} of "
            f"layers and {tasks} tasks"
        )
    if not math.isfinite(weights.sum().item()):
        for group, own in enumerate(weights):
            with naming_group(group):
                check_weights(own, tasks, method)


def check_update(update: Tensor, parameters: int, method: object) -> None:
    """Raise an error unless the update is one finite number per parameter.

    On an accelerator only its shape is checked.
    """
    if not isinstance(update, Tensor):
        raise TypeError(f"{method} returned an update as {type(update).__name__}, not as a tensor")
    if update.shape != (parameters,):
        raise ValueError(
            f"{method} returned an update of shape {tuple(update.shape)} for {number_of(parameters, 'parameter')}"
        )
    # One cheap pass first, as in check_jacobian.
    if update.device.type == "cpu" and not math.isfinite(update.detach().sum().item()):
        bad = (~update.detach().isfinite()).nonzero().flatten().tolist()
        if bad:
            raise ValueError(f"{method} returned NaN or infinity in the update, first at parameter {bad[0]}")


def check_positive(method: str, losses: Tensor) -> None:
    """Check losses for methods that divide by them: positive, or 0 for a task to be left out.

    On an accelerator losses are not read.

    Raises:
        ValueError: A loss is negative; the error names the method, the first such task, its value
            and a cure.
    """
    if losses.device.type != "cpu":
        return
    for index, value in enumerate(losses.tolist()):
        if value < 0:
            raise ValueError(
                f"{method}: needs positive losses, got {value:g} at task index {index}; "
                "add a constant that keeps it positive, or take a method that allows any loss"
            )


def _not_finite(vector: Tensor) -> list[int]:
    return [index for index, value in enumerate(vector.tolist()) if not math.isfinite(value)]


def _listed(indices: list[int]) -> str:
    return ", ".join(map(str, indices))
