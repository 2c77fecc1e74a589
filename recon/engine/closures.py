"""Optimizers that evaluate the losses themselves, as often as they like: L-BFGS and its kind."""

import inspect
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from recon.engine.dispatch import fill_grad
from recon.engine.evaluation import Evaluation
from recon.engine.setting import Setting
from recon.engine.step_info import StepInfo
from recon.methods import LossMethod, Method
from recon.methods.base.randomness import RandomMethod

Optimizer = torch.optim.Optimizer


def needs_closure(optimizer: Optimizer) -> bool:
    """Whether the optimizer's ``step`` requires a closure that evaluates the loss.

    Example:
        >>> point = torch.nn.Parameter(torch.zeros(2))
        >>> needs_closure(torch.optim.LBFGS([point])), needs_closure(torch.optim.SGD([point]))
        (True, False)
    """
    kind: Any = type(_innermost(optimizer))  # mypy finds the class itself not hashable
    return _step_needs_closure(kind)


def step_by_optimizer(optimizer: Optimizer, evaluate: Callable[[], Evaluation], setting: Setting) -> StepInfo:
    """Make one step of an optimizer that calls for evaluations itself.

    The analyzer observes the first evaluation.

    Args:
        optimizer: Steps on all parameters; its gradients are zeroed before each evaluation.
        evaluate: Evaluates the batch at hand.
        setting: What the engine keeps from step to step.

    Returns:
        The record of the first evaluation.

    Raises:
        TypeError: The method's update changes when the same point is evaluated again.
    """
    _check_whole_evaluations(setting, optimizer)
    if len(setting.tasks) > 1:
        _check_repeatable(setting.method, optimizer)
    infos: list[StepInfo] = []

    def objective() -> Any:  # torch says float, and takes tensors
        optimizer.zero_grad()
        infos.append(fill_grad(evaluate, setting, None if infos else setting.shared.analyzer))
        losses = torch.stack(list(infos[-1].losses.values()))
        return _objective_of(setting.method, losses, setting.scale_for(len(losses)))

    optimizer.step(objective)
    setting.step_count += 1
    return infos[0]


def _check_whole_evaluations(setting: Setting, optimizer: Optimizer) -> None:
    """Refuse what one evaluation alone cannot honour."""
    name = type(_innermost(optimizer)).__name__
    if setting.held.counts:
        raise TypeError(
            f"{name} evaluates the whole batch several times a step, and the micro-batches of engine.accumulate are "
            "gone; give it whole batches, or take an optimizer of one evaluation a step"
        )
    if setting.scaling.active:
        raise TypeError(
            f"{name} evaluates the losses itself, which a GradScaler does not support; train without scaler"
        )


def _check_repeatable(method: Method, optimizer: Optimizer) -> None:
    """Refuse a method whose update changes when the same point is evaluated again."""
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


def _objective_of(method: Method, losses: Tensor, update_scale: float) -> Tensor:
    """The number that an optimizer compares between evaluations, at the scale of the update.

    For a loss method this is its objective, whose gradient the update is. The update of a method of
    gradients is the gradient of no function: there it is the sum or mean of the losses, as the
    method's scale is.

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
    """The optimizer itself, where Lightning or another library has wrapped it in one of its own."""
    while isinstance(inner := getattr(optimizer, "optimizer", None), Optimizer):
        optimizer = inner
    return optimizer


@cache
def _step_needs_closure(kind: type[Optimizer]) -> bool:
    closure = inspect.signature(kind.step).parameters.get("closure")
    return closure is not None and closure.default is closure.empty
