"""Methods by name. Case and separators do not matter: ``"Nash-MTL"``, ``"nash mtl"`` and ``"nash_mtl"`` are one name."""

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from recon.methods.method import Method
from recon.names import unknown_name

M = TypeVar("M", bound=type[Method])

# From the name without case and separators to the name as registered and its class.
_registered: dict[str, tuple[str, type[Method]]] = {}


def register_method(name: str) -> Callable[[M], M]:
    """Class decorator that makes a method available by name.

    Args:
        name: The name; it must not be taken, except by an earlier version of the same class (a reloaded module or notebook cell).

    Raises:
        ValueError: If the name is empty or taken.
        TypeError: If what is registered is not a `Method` class.
    """
    key = _key(name)
    if not key:
        raise ValueError(f"a method needs a name of letters or digits, got {name!r}")

    def register(cls: M) -> M:
        if not (isinstance(cls, type) and issubclass(cls, Method)):
            raise TypeError(f"cannot register {cls!r} as {name!r}: not a subclass of recon.Method")
        if key in _registered:
            taken, owner = _registered[key]
            if (owner.__module__, owner.__qualname__) != (cls.__module__, cls.__qualname__):
                raise ValueError(
                    f"method name {name!r} is taken: {taken!r} is {owner.__module__}.{owner.__qualname__}; choose another name"
                )
        _registered[key] = (name, cls)
        return cls

    return register


def create_method(name: str, **hyperparameters: Any) -> Method:
    """Build a registered method.

    Args:
        name: Name of the method; see `list_methods`.
        **hyperparameters: Arguments of the method's class.

    Raises:
        ValueError: If there is no such method or it has no such hyperparameter; the nearest are suggested.
    """
    if _key(name) not in _registered:
        raise unknown_name("method", name, list_methods())
    registered, cls = _registered[_key(name)]
    parameters = inspect.signature(cls).parameters.values()
    if all(parameter.kind is not parameter.VAR_KEYWORD for parameter in parameters):
        known = [parameter.name for parameter in parameters]
        for hyperparameter in hyperparameters:
            if hyperparameter not in known:
                raise unknown_name("hyperparameter", hyperparameter, known, where=f"method {registered!r}")
    return cls(**hyperparameters)


def list_methods() -> list[str]:
    """Names of all registered methods, sorted."""
    return sorted(name for name, _ in _registered.values())


def _key(name: str) -> str:
    return "".join(character for character in name.lower() if character not in "_- ")
