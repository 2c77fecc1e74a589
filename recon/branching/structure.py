"""Values that modules take and return: tensors in containers of any kind."""

import copy
import dataclasses
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from recon.branching.python_state import is_constant


class Opaque(Exception):
    """A value holds something of which nobody knows what it is made of."""


def map_tensors(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """The value with every tensor in it replaced, in containers of its own.

    Raises:
        Opaque: If something in it is no tensor, no constant and no container that is known.
    """
    leaves, structure = tree_flatten(value)
    return tree_unflatten([_mapped(leaf, function) for leaf in leaves], structure)


def _mapped(leaf: Any, function: Callable[[Tensor], Tensor]) -> Any:
    if type(leaf) in (Tensor, nn.Parameter):
        return function(leaf)
    if is_constant(leaf):
        return leaf
    if _is_container(leaf):
        return _copied(leaf, function)
    raise Opaque(type(leaf).__name__)


def _is_container(leaf: Any) -> bool:
    """Whether this is one that pytree does not know: a dataclass, or of a class derived from dict or list."""
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
    """What is equal for values that hold the same: `of` each tensor, constants, and the kinds of containers.

    Raises:
        Opaque: As in :func:`map_tensors`.
    """
    return tuple(_signed(value, of))


def _signed(value: Any, of: Callable[[Tensor], Any]) -> Iterator[Any]:
    leaves, structure = tree_flatten(value)
    yield structure
    for leaf in leaves:
        if type(leaf) in (Tensor, nn.Parameter):
            yield of(leaf)
        elif is_constant(leaf):
            yield type(leaf), (id(leaf) if isinstance(leaf, FunctionType) else leaf)
        elif _is_container(leaf):
            items = list(leaf.items()) if isinstance(leaf, dict) else list(leaf) if isinstance(leaf, list) else []
            yield type(leaf), tuple(_signed([items, dict(getattr(leaf, "__dict__", {}))], of))
        else:
            raise Opaque(type(leaf).__name__)
