"""The content of a Python value, in a form that can be kept and compared later."""

import enum
import functools
import random
from collections import deque
from collections.abc import Iterable, Mapping
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType, NoneType
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from recon.branching.values import Untraceable

# fmt: off
_CONSTANTS = (
    NoneType, bool, int, float, complex, str, bytes, type, enum.Enum, FunctionType, BuiltinFunctionType, ModuleType,
    torch.dtype, torch.device, np.generic,
)
# fmt: on
_LIMIT = 10_000


def is_constant(value: Any) -> bool:
    """Whether a value never changes by itself and is the same in a deep copy.

    Such values are numbers, strings, functions and classes.
    """
    return isinstance(value, _CONSTANTS)


def same_constant(left: Any, right: Any) -> bool:
    """Whether two values are the same constant: ``1``, ``1.0`` and ``True`` differ."""
    return left is right or (type(left) is type(right) and is_constant(left) and bool(left == right))


class _Itself:
    """An object that equals only itself; holding it keeps its id from being reused."""

    def __init__(self, it: Any) -> None:
        self.it = it

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Itself) and self.it is other.it

    def __hash__(self) -> int:
        return id(self.it)


def freeze(value: Any) -> Any:
    """Return the content of a value, which equals that of another value with the same content.

    Numbers and strings are compared by value; containers, and objects with attributes or slots, by
    content; tensors, modules and all others by identity. Tensors that are not trained also compare
    by the number of writes into them.

    Raises:
        Untraceable: The value holds more than can be compared at every step.
    """
    return _freeze(value, {})


def _freeze(value: Any, seen: dict[int, Any]) -> Any:
    if is_constant(value):
        return type(value), value
    if isinstance(value, Tensor):
        return _Itself(value), None if value.requires_grad or value.is_inference() else value._version
    if isinstance(value, fx.Proxy | nn.Module):
        return _Itself(value)
    if id(value) in seen:
        return "seen", list(seen).index(id(value))
    seen[id(value)] = value
    if len(seen) > _LIMIT:
        raise Untraceable(f"it reads a {type(value).__name__} that holds more than can be compared at every step")
    return type(value), _held(value, seen)


def _held(value: Any, seen: dict[int, Any]) -> Any:
    if type(value) is dict:  # the common case, read in every step
        return _pairs(value.items(), seen)
    if isinstance(value, list | tuple | deque):
        return tuple(_freeze(item, seen) for item in value)
    if isinstance(value, set | frozenset):
        return frozenset(item if is_constant(item) else _Itself(item) for item in value)
    if isinstance(value, np.ndarray):
        return value.shape, value.dtype.str, value.tobytes()
    if isinstance(value, MethodType):
        return value.__func__, _freeze(value.__self__, seen)
    if isinstance(value, functools.partial):
        return value.func, _freeze(value.args, seen), _freeze(value.keywords, seen)
    if (state := generator_state(value)) is not None:
        return state
    attributes = attributes_of(value)
    if attributes is None and not isinstance(value, Mapping):
        return _Itself(value)
    return _pairs((*(value.items() if isinstance(value, Mapping) else ()), *(attributes or {}).items()), seen)


def _pairs(pairs: Iterable[tuple[Any, Any]], seen: dict[int, Any]) -> tuple[Any, ...]:
    return tuple((key if is_constant(key) else _Itself(key), _freeze(item, seen)) for key, item in pairs)


def attributes_of(value: Any) -> dict[str, Any] | None:
    """The attributes and slots of an object; None for an object that has none."""
    slots = [name for cls in type(value).__mro__ for name in _slots(cls) if hasattr(value, name)]
    held = getattr(value, "__dict__", None)
    if held is None and not slots:
        return None
    return {**(held or {}), **{name: getattr(value, name) for name in slots}}


def _slots(cls: type) -> tuple[str, ...]:
    slots = cls.__dict__.get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(name for name in slots if not name.startswith("__"))


def generator_state(value: Any) -> Any:
    """The state of a generator of random numbers; None for anything else."""
    if isinstance(value, random.Random):
        return value.getstate()
    if isinstance(value, torch.Generator):
        return value.get_state().numpy().tobytes()
    if isinstance(value, np.random.Generator):
        return repr(value.bit_generator.state)
    return repr(value.get_state(legacy=False)) if isinstance(value, np.random.RandomState) else None


def random_state() -> Any:
    """The states of the global generators of Python, PyTorch (on the host) and NumPy."""
    return random.getstate(), torch.get_rng_state().numpy().tobytes(), _numpy_state()


def _numpy_state() -> Any:
    state = np.random.get_state(legacy=False)
    return state["state"]["key"].tobytes(), state["state"]["pos"], state["has_gauss"]
