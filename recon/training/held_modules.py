"""Modules inside callables, such as the class weights or the network of a loss."""

import inspect
from collections.abc import Callable, Iterator
from functools import partial
from types import FunctionType, MethodType
from typing import Any

from torch import nn

from recon.tasks.task import Task


def task_modules(tasks: list[Task], known: nn.Module) -> nn.ModuleDict:
    """The modules inside losses and estimates, by task and role, for a network to register.

    Args:
        tasks: The tasks.
        known: A module whose submodules are left out: a loss may refer to a part of the network.

    Returns:
        Task -> role (``loss``, ``estimate``; ``loss_1``, ... for further modules of the same
        callable) -> module. A module stands under the first task that holds it; a task that holds
        none is left out.
    """
    seen = set(known.modules())
    found = nn.ModuleDict()
    for task in tasks:
        own = nn.ModuleDict()
        for role, function in (("loss", task.loss), ("estimate", task.estimate)):
            for module in held_modules(function):
                if module not in seen:
                    own[_free_name(role, own)] = module
                    seen.update(module.modules())
        if own:
            found[task.name] = own
    return found


def held_modules(function: Callable[..., Any] | None) -> list[nn.Module]:
    """The modules inside a callable, in the order in which they are found.

    Python lets one look into these places: the callable itself, the function and arguments of a
    ``partial``, the object of a bound method, the attributes of a callable object, the variables
    that a function closes over, its defaults, the globals that it names, and lists, tuples and
    dicts of these.

    >>> from functools import partial
    >>> weighted = nn.CrossEntropyLoss()
    >>> held_modules(partial(lambda loss, prediction, target: loss(prediction, target), weighted))
    [CrossEntropyLoss()]
    """
    return list(dict.fromkeys(_held(function, seen=set())))


def _held(value: Any, seen: set[int]) -> Iterator[nn.Module]:
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, nn.Module):
        yield value
        return
    for part in _parts(value):
        yield from _held(part, seen)


def _parts(value: Any) -> list[Any]:
    if isinstance(value, partial):
        return [value.func, *value.args, *value.keywords.values()]
    if isinstance(value, MethodType):
        return [value.__self__]
    if isinstance(value, FunctionType):
        return _parts_of_function(value)
    if isinstance(value, list | tuple):
        return list(value)
    if isinstance(value, dict):
        return list(value.values())
    if callable(value) and not isinstance(value, type):
        return list(getattr(value, "__dict__", {}).values())
    return []


def _parts_of_function(function: FunctionType) -> list[Any]:
    variables = inspect.getclosurevars(function)
    # Not into the functions that it calls by their global names: from there one reaches all of
    # torch.
    named = [value for value in variables.globals.values() if isinstance(value, nn.Module)]
    keywords = function.__kwdefaults__ or {}
    return [*variables.nonlocals.values(), *(function.__defaults__ or ()), *keywords.values(), *named]


def _free_name(role: str, taken: nn.ModuleDict) -> str:
    number = sum(name.partition("_")[0] == role for name in taken)
    return f"{role}_{number}" if number else role
