"""Sharpness-aware methods: they take task gradients at perturbed parameters, for another method."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from recon.methods.base.kinds import GramianMethod, JacobianMethod
from recon.methods.base.method import Method
from recon.methods.base.registry import create_method


def gradient_method(owner: str, name: str, options: Mapping[str, Any] | None) -> Method:
    """The wrapped method of a sharpness-aware one.

    Args:
        owner: Name of the method around it, for the error.
        name: Name of a registered Gramian or Jacobian method.
        options: Its hyperparameters.

    Raises:
        ValueError: It is another kind of method, or evaluates the losses again itself.
    """
    method = create_method(name, **(options or {}))
    if not isinstance(method, GramianMethod | JacobianMethod) or method.evaluates_again:
        raise ValueError(
            f"{owner}: method must combine task gradients in one evaluation, {name!r} does not; "
            "for their plain sum take 'constant'"
        )
    return method


def ascent(gradients: Sequence[Tensor], rho: float, lengths: Sequence[Tensor] | None = None) -> list[Tensor]:
    """The step of length ρ up a gradient; zero for a zero gradient.

    Args:
        gradients: The gradient in each parameter.
        rho: Length of the step.
        lengths: In units of what the step is measured, number by number; 1 by default.

    Example:
        >>> ascent([torch.tensor([3.0, 0.0]), torch.tensor([4.0])], rho=0.1)
        [tensor([0.0600, 0.0000]), tensor([0.0800])]
    """
    if lengths is None:
        factor = _factor(gradients, rho)
        return [factor * gradient for gradient in gradients]
    relative = [length * gradient for length, gradient in zip(lengths, gradients, strict=True)]
    factor = _factor(relative, rho)
    return [factor * length * change for length, change in zip(lengths, relative, strict=True)]


def _factor(gradients: Sequence[Tensor], rho: float) -> Tensor:
    norm = nn.utils.get_total_norm(gradients)
    return torch.where(norm > 0, rho / norm, 0.0)
