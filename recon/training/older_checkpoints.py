"""Optimizer states of older checkpoints, where all that a method learned was one parameter."""

from typing import Any

from torch import Tensor, nn

from recon.methods.base.task_scalars import TaskScalars


def split_learned_numbers(checkpoint: dict[str, Any], module: nn.Module) -> None:
    """Give each learned number of a method an optimizer state of its own, in place.

    Older checkpoints hold one state for the K numbers of ``uw``, ``imtl_l`` or ``imtl``. A state of
    several parameter groups stays: it does not tell which of its parameters these numbers are.

    Args:
        checkpoint: A checkpoint of Lightning.
        module: The module that it was made of; its optimizer has all parameters, in their order.
    """
    sizes = {p: len([*m.parameters()]) for m in module.modules() if isinstance(m, TaskScalars) for p in m.parameters()}
    parameters = [sizes.get(parameter, 1) for parameter in module.parameters()]
    older: list[int] = []  # for each parameter of the older optimizer, how many it has become
    while sum(older) < len(parameters):
        older.append(parameters[sum(older)])
    for optimizer in checkpoint.get("optimizer_states", []):
        (first, *others) = optimizer["param_groups"]
        if sizes and not others and len(first["params"]) == len(older) < len(parameters):
            optimizer["state"] = _split(optimizer["state"], older)
            first["params"] = list(range(len(parameters)))


def _split(states: dict[int, dict[str, Any]], sizes: list[int]) -> dict[int, dict[str, Any]]:
    places = [(older, row, size) for older, size in enumerate(sizes) for row in range(size)]
    return {
        new: {name: _row(value, row, size) for name, value in states[older].items()}
        for new, (older, row, size) in enumerate(places)
        if older in states
    }


def _row(value: Any, row: int, size: int) -> Any:
    if not isinstance(value, Tensor) or size == 1:
        return value
    return (value[row] if value.shape == (size,) else value).clone()
