"""Hooks that a trace cannot hold.

A module that is recorded as one operation runs its hooks at each call. The hooks of a module that
is entered run once, while tracing. That is the same only for a hook that computes with its
arguments and nothing else.
"""

import functools
from collections.abc import Callable, Iterator
from types import FunctionType, MethodType, ModuleType
from typing import Any

from torch import nn

from recon.branching.reads.python_state import attributes_of, is_constant


def foreign_hooks(module: nn.Module, is_leaf: bool, root: nn.Module) -> str:
    """The reason why the hooks of a module cannot be traced; empty if they can.

    Args:
        module: A module whose call is traced.
        is_leaf: Whether it is recorded as one operation.
        root: The network that holds it.
    """
    hooks = [*module._forward_hooks.values(), *module._forward_pre_hooks.values()]
    if not hooks:
        return ""
    kind = type(module).__name__
    if is_leaf:
        inside = set(root.modules())
        if any(isinstance(held, nn.Module) and held in inside for hook in hooks for held in _held_by(hook)):
            return f"a hook of a {kind} may change what the forward reads"
        return ""
    if any(not is_constant(held) for hook in hooks for held in (*_held_by(hook), *_globals_of(hook))):
        return f"a hook of a {kind} may keep what it sees"
    return ""


def _held_by(hook: Callable[..., Any]) -> Iterator[Any]:
    """The objects that a hook holds, as bound method, partial function, closure or object."""
    if isinstance(hook, MethodType):
        yield hook.__self__
    elif isinstance(hook, functools.partial):
        yield from (*hook.args, *hook.keywords.values())
        yield from _held_by(hook.func)
    elif isinstance(hook, FunctionType):
        yield from (cell.cell_contents for cell in hook.__closure__ or ())
    else:
        yield hook
        yield from (attributes_of(hook) or {}).values()


def _globals_of(hook: Callable[..., Any]) -> Iterator[Any]:
    if isinstance(hook, FunctionType):
        names = set(hook.__code__.co_names) & set(hook.__globals__)
        yield from (hook.__globals__[name] for name in names if not isinstance(hook.__globals__[name], ModuleType))
