"""Loss scaling of training in float16, by the scaler that a loop has anyway."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from recon.errors import NotFinite
from recon.gradients.graph import computes_in_half


class LossScaling:
    """The scale of losses, by a ``torch.amp.GradScaler``.

    Args:
        scaler: The scaler; ``None``, or one that is not enabled, leaves losses as they are.

    Raises:
        TypeError: It is no scaler.

    Example:
        >>> LossScaling(None).scaled(torch.tensor(2.0))
        tensor(2.)
    """

    def __init__(self, scaler: torch.amp.GradScaler | None) -> None:
        if scaler is not None and not isinstance(scaler, torch.amp.GradScaler):
            raise TypeError(
                f"scaler is of type {type(scaler).__name__}; give a torch.amp.GradScaler, or None for no scaling"
            )
        self.scaler: Any = scaler

    @property
    def active(self) -> bool:
        """Whether losses are scaled."""
        return self.scaler is not None and bool(self.scaler.is_enabled())

    @property
    def factor(self) -> float:
        """The present scale."""
        return float(self.scaler.get_scale()) if self.active else 1.0

    def factor_on(self, device: torch.device) -> float:
        """The present scale of a scaler, which is made ready for a step without losses too."""
        return float(self.scaler.scale(torch.ones((), device=device)))

    def scaled(self, loss: Tensor) -> Tensor:
        """A loss times the scale, with its graph."""
        scaled: Tensor = self.scaler.scale(loss) if self.active else loss
        return scaled

    def unscale(self, parameters: Iterable[Tensor]) -> None:
        """Divide ``.grad`` of parameters by the scale."""
        factor = self.factor
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad = parameter.grad / factor

    def stepping(self, optimizer: Any) -> Any:
        """An optimizer whose ``step`` is the scaler's.

        The wrappers of Lightning and Fabric step by their own scaler.
        """
        return optimizer if not self.active or _is_of_lightning(optimizer) else _ScaledSteps(optimizer, self.scaler)

    def check_needed(self, losses: list[Tensor]) -> None:
        """Refuse a scaler where nothing is computed in float16.

        Raises:
            ValueError: No loss has an operation in float16 in its graph.
        """
        if self.active and losses and not any(computes_in_half(loss) for loss in losses):
            raise ValueError(
                "the engine has a scaler, and no operation of the losses runs in float16; compute them under "
                "torch.autocast(device_type, dtype=torch.float16), or leave the scaler out (bfloat16 needs none)"
            )

    def check_scale(self, factor: float, step: int) -> None:
        """Refuse to skip one more step where a smaller scale does not help.

        Raises:
            NotFinite: The scale is below 1.
        """
        if factor < 1:
            raise NotFinite(
                f"step {step}: a loss or gradient is not finite, and the loss scale is down to {factor:g}: this is no "
                "overflow of float16; lower the learning rate, or look at the losses and data"
            )


def _is_of_lightning(optimizer: Any) -> bool:
    """Whether an optimizer wraps another one whose class it takes on, as Lightning's do."""
    inner = getattr(optimizer, "optimizer", None)
    return isinstance(inner, Optimizer) and isinstance(optimizer, type(inner))


class _ScaledSteps:
    """The part of an optimizer that a method uses, with steps by a scaler."""

    def __init__(self, optimizer: Optimizer, scaler: torch.amp.GradScaler) -> None:
        self.optimizer = optimizer
        self.param_groups = optimizer.param_groups
        self.state = optimizer.state
        self.zero_grad = optimizer.zero_grad
        self._scaler = scaler

    def step(self) -> None:
        self._scaler.step(self.optimizer)
        self._scaler.update()
