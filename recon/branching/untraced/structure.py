"""Arguments and results of modules: tensors in containers of any kind."""

import copy
import dataclasses
from collections.abc import Callable
from types import FunctionType
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_is_leaf, tree_unflatten

from recon.branching.reads.python_state import is_constant

# Every call of every module runs these functions, so the most common kinds come first and pytree,
# which is slow, last.
_TENSORS = (Tensor, nn.Parameter)


class Opaque(Exception):
    """A value holds an object of unknown structure."""


def map_tensors(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """Return the value with every tensor in it replaced, in containers of its own.

    Raises:
        Opaque: The value holds an object that is no tensor, no constant and no known container.
    """
    kind = type(value)
    if kind in _TENSORS:
        return function(value)
    if is_constant(value):
        return value
    if kind is tuple or kind is list:
        return kind([map_tensors(item, function) for item in value])
    if kind is dict:
        return {key: map_tensors(item, function) for key, item in value.items()}
    if not tree_is_leaf(value):
        leaves, structure = tree_flatten(value)
        return tree_unflatten([map_tensors(leaf, function) for leaf in leaves], structure)
    if _is_container(value):
        return _copied(value, function)
    raise Opaque(kind.__name__)


def tensors_in(value: Any) -> list[Tensor]:
    """The tensors that a value holds, in order.

    Raises:
        Opaque: As in :func:`map_tensors`.
    """
    found: list[Tensor] = []
    map_tensors(value, lambda tensor: found.append(tensor) or tensor)  # type: ignore[func-returns-value]
    return found


def _is_container(leaf: Any) -> bool:
    """Whether pytree does not know this container: a dataclass, or a subclass of dict or list."""
    return isinstance(leaf, dict | list) or (dataclasses.is_dataclass(leaf) and hasattr(leaf, "__dict__"))


def _copied(container: Any, function: Callable[[Tensor], Tensor]) -> Any:
    copied = copy.copy(container)
    if isinstance(container, list):
        copied[:] = [map_tensors(item, function) for item in container]
    if isinstance(container, dict):
        for key in container:
            dict.__setitem__(copied, key, map_tensors(container[key], function))
    for name, held in getattr(container, "__dict__", {}).items():
        object.__setattr__(copied, name, map_tensors(held, function))
    return copied


def signature(value: Any, of: Callable[[Tensor], Any]) -> tuple[Any, ...]:
    """A key that is equal for values with the same content.

    It consists of ``of`` each tensor, constants, and the kinds of containers.

    Raises:
        Opaque: As in :func:`map_tensors`.
    """
    kind = type(value)
    if kind in _TENSORS:
        return Tensor, of(value)
    if is_constant(value):
        return kind, (id(value) if isinstance(value, FunctionType) else value)
    if kind is tuple or kind is list:
        return kind, *[signature(item, of) for item in value]
    if kind is dict:
        return kind, *[(key, signature(item, of)) for key, item in value.items()]
    if not tree_is_leaf(value):
        leaves, structure = tree_flatten(value)
        return structure, *[signature(leaf, of) for leaf in leaves]
    if _is_container(value):
        items = list(value.items()) if isinstance(value, dict) else list(value) if isinstance(value, list) else []
        return kind, signature([items, dict(getattr(value, "__dict__", {}))], of)
    raise Opaque(kind.__name__)
