"""Undo of a refused step in the method, so that a loop can skip a bad batch."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from recon.methods import Method

# Larger buffers are of the Jacobian's size. A copy would cost, and their methods see checked
# gradients only.
_LARGEST_COPY = 1 << 16


@contextmanager
def kept_if_refused(method: Method) -> Iterator["MethodState"]:
    """Undo the changes to a method in a ``with`` block that ends with an error.

    Attributes, buffers, randomness and ``.grad`` of its parameters are then as before. The block
    gets the state to come back to.

    Example:
        >>> from recon.methods import create_method
        >>> method = create_method("constant")
        >>> with kept_if_refused(method):
        ...     method.lessons = 3
        >>> try:
        ...     with kept_if_refused(method):
        ...         method.lessons = 4
        ...         raise ValueError("a bad batch")
        ... except ValueError:
        ...     print(method.lessons)
        3
    """
    before = MethodState(method)
    try:
        yield before
    except Exception:
        before.restore()
        raise


class MethodState:
    """Attributes, buffers, randomness and ``.grad`` of the parameters of a method, to come back to.

    Args:
        method: The method.
    """

    def __init__(self, method: Method) -> None:
        self._states = [(module, _state(module)) for module in method.modules()]

    def restore(self) -> None:
        """Bring the method back to this state."""
        for module, state in self._states:
            _restore(module, *state)


def _state(module: nn.Module) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, Tensor], dict[str, Tensor | None]]:
    attributes = dict(vars(module))
    buffers = {name: _copy(buffer) for name, buffer in module._buffers.items() if buffer is not None}
    generators = {name: value.get_state() for name, value in attributes.items() if isinstance(value, torch.Generator)}
    grads = {n: None if p.grad is None else p.grad.clone() for n, p in module._parameters.items() if p is not None}
    return attributes, buffers, generators, grads


def _copy(buffer: Tensor) -> Tensor:
    return buffer.clone() if buffer.numel() <= _LARGEST_COPY else buffer


def _restore(
    module: nn.Module,
    attributes: dict[str, Any],
    buffers: dict[str, Tensor],
    generators: dict[str, Tensor],
    grads: dict[str, Tensor | None],
) -> None:
    for name in vars(module).keys() - attributes.keys():
        del vars(module)[name]
    vars(module).update(attributes)
    module._buffers.update(buffers)
    for name, state in generators.items():
        attributes[name].set_state(state)
    for name, gradient in grads.items():
        module.get_parameter(name).grad = gradient
