"""Methods by name.

Case and separators do not matter: "Nash-MTL", "nash mtl" and "nash_mtl" are one name.
"""

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from recon.errors import unknown_name
from recon.methods.base.method import Method

M = TypeVar("M", bound=type[Method])

# Name without case and separators -> name as registered, class.
_registered: dict[str, tuple[str, type[Method]]] = {}


def register_method(name: str) -> Callable[[M], M]:
    """Class decorator that makes a method available by name.

    Args:
        name: A name that is free, or belongs to an earlier version of the same class (a reloaded
            module or notebook cell).

    Raises:
        ValueError: The name is empty or taken.
        TypeError: The decorated object is not a method class.

    Example:
        >>> import torch
        >>> import recon
        >>> @recon.register_method("first_task_only")
        ... class FirstTaskOnly(recon.GramianMethod):
        ...     def weights(self, gramian, losses=None):
        ...         return torch.eye(len(gramian), dtype=torch.float64)[0]
        >>> recon.create_method("First Task Only").combine(torch.tensor([[4.0, 0.0], [-1.0, 2.0]]))
        tensor([4., 0.])
    """
    key = _key(name)
    if not key:
        raise ValueError(f"a method needs a name of letters or digits, got {name!r}")

    def register(cls: M) -> M:
        if not (isinstance(cls, type) and issubclass(cls, Method)):
            raise TypeError(f"cannot register {cls!r} as method {name!r}; derive a class from recon.Method")
        if key in _registered and _identity(_registered[key][1]) != _identity(cls):
            taken, owner = _registered[key]
            raise ValueError(f"method name {name!r} is taken: {taken!r} is {_identity(owner)}; choose another name")
        _registered[key] = (name, cls)
        return cls

    return register


def create_method(name: str, **hyperparameters: Any) -> Method:
    """Build a registered method.

    Args:
        name: Name of the method, one of :func:`list_methods`; case and separators do not matter.
        **hyperparameters: Arguments of the method's class.

    Raises:
        ValueError: There is no such method, it has no such hyperparameter (both errors suggest the
            nearest name), or a value is out of range.
        TypeError: The name is not a string.

    Example:
        >>> create_method("CAGrad", c=0.4)
        CAGrad(c=0.4, rescale=1)
    """
    registered, cls = _find(name)
    parameters = inspect.signature(cls).parameters
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        for hyperparameter in hyperparameters:
            if hyperparameter not in parameters:
                raise unknown_name("hyperparameter", hyperparameter, parameters, where=f"method {registered!r}")
    return cls(**hyperparameters)


def list_methods(kind: type[object] = Method) -> list[str]:
    """Return the names of all registered methods, sorted.

    Args:
        kind: A class that the methods must derive from, such as ``recon.LossMethod``.

    Example:
        >>> import recon
        >>> recon.list_methods(recon.JacobianMethod)
        ['db_mtl', 'excess_mtl', 'fmtl', 'graddrop', 'moco', 'samo', 'trimmed_mean']
    """
    return sorted(name for name, cls in _registered.values() if issubclass(cls, kind))


def method_name(name: str) -> str:
    """Return a method's name as :func:`list_methods` spells it.

    Raises:
        ValueError: There is no such method; the error suggests the nearest name.
        TypeError: The name is not a string.
    """
    return _find(name)[0]


def method_class(name: str) -> type[Method]:
    """Return the class of a registered method.

    Raises:
        ValueError: There is no such method; the error suggests the nearest name.
        TypeError: The name is not a string.

    Example:
        >>> method_class("cagrad").__name__
        'CAGrad'
    """
    return _find(name)[1]


def registered_name(cls: type[Method]) -> str:
    """Return the registered name of a method class, or the class name without one."""
    return next((name for name, registered in _registered.values() if registered is cls), cls.__name__)


def _find(name: str) -> tuple[str, type[Method]]:
    if not isinstance(name, str):
        raise TypeError(f"a method is wanted by name, such as 'cagrad', got {name!r}")
    if _key(name) not in _registered:
        unknown = unknown_name("method", name, list_methods())
        raise ValueError(f"{unknown}; if it is your own, import its module first (recon --import MODULE)")
    return _registered[_key(name)]


def _key(name: str) -> str:
    return "".join(character for character in name.lower() if character not in "_- ")


def _identity(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"
