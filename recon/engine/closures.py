"""Optimizers that evaluate the losses themselves, as often as they like: L-BFGS and its kind."""

import inspect
from functools import cache
from typing import Any

import torch
from torch import Tensor

from recon.methods import LossMethod, Method
from recon.methods.base.randomness import RandomMethod

Optimizer = torch.optim.Optimizer


def needs_closure(optimizer: Optimizer) -> bool:
    """Whether the optimizer's ``step`` cannot do without a closure that evaluates the loss."""
    kind: Any = type(_innermost(optimizer))  # mypy finds the class itself not hashable
    return _step_needs_closure(kind)


def check_repeatable(method: Method, optimizer: Optimizer) -> None:
    """Refuse a method whose update is another one when the same point is evaluated again.

    Raises:
        TypeError: The method draws random numbers, remembers earlier steps, or evaluates the losses again by itself.
    """
    if type(method).step is not Method.step:
        reason = "evaluates the losses several times a step itself"
    elif any(isinstance(module, RandomMethod) for module in method.modules()):
        reason = "draws random numbers in each evaluation"
    elif any(True for _ in method.buffers()):
        reason = "remembers what it saw in earlier evaluations"
    else:
        return
    raise TypeError(
        f"{type(_innermost(optimizer)).__name__} evaluates the losses several times a step and compares the results, "
        f"and {type(method).__name__} {reason}; take an optimizer of one evaluation a step, such as torch.optim.Adam, "
        "or a method without memory and randomness, such as 'joint' or 'upgrad'"
    )


def objective_of(method: Method, losses: Tensor, update_scale: float) -> Tensor:
    """The number that an optimizer compares between evaluations, at the scale of the update.

    That is a loss method's objective, whose gradient the update is; for the methods of gradients, whose update is the
    gradient of no function, the sum or mean of the losses, as the method's scale is.

    Args:
        method: The method.
        losses: (K,), detached.
        update_scale: Factor on the method's update.
    """
    with torch.no_grad():
        if len(losses) == 1:
            return losses[0]
        if isinstance(method, LossMethod):
            return method.objective(losses) * update_scale
        return (losses.sum() if method.scale == "sum" else losses.mean()) * update_scale


def _innermost(optimizer: Optimizer) -> Optimizer:
    """The optimizer itself, where Lightning or another library has put one of its own around it."""
    while isinstance(inner := getattr(optimizer, "optimizer", None), Optimizer):
        optimizer = inner
    return optimizer


@cache
def _step_needs_closure(kind: type[Optimizer]) -> bool:
    closure = inspect.signature(kind.step).parameters.get("closure")
    return closure is not None and closure.default is closure.empty
