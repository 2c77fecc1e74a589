"""Effects of calling a module beside its output."""

import functools
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import MethodType
from typing import Any

from torch import Tensor, nn

from recon.branching.reads.python_state import freeze
from recon.branching.values import Untraceable

_MACHINERY = frozenset(vars(nn.Module())) - {"training", "_modules"}
_LEFT_OUT = _MACHINERY | {"forward"}


def attributes(modules: Mapping[str, nn.Module]) -> dict[str, Any]:
    """Path -> the attributes of a module beside registered tensors, frozen to be compared."""
    frozen: dict[int, Any] = {}
    return {path: _attributes(module, frozen) for path, module in modules.items()}


def _attributes(module: nn.Module, frozen: dict[int, Any]) -> list[tuple[str, Any]]:
    left_out = _LEFT_OUT | _computed(module) if module._forward_pre_hooks else _LEFT_OUT
    return [(name, _frozen(value, frozen)) for name, value in vars(module).items() if name not in left_out]


def _frozen(value: Any, frozen: dict[int, Any]) -> Any:
    if id(value) not in frozen:
        try:
            frozen[id(value)] = freeze(value)
        except Untraceable:  # too large to walk through
            frozen[id(value)] = id(value)
    return frozen[id(value)]


def _computed(module: nn.Module) -> set[str]:
    """The attributes that hooks of PyTorch (weight norm, spectral norm, pruning) compute."""
    hooks = [hook for hook in module._forward_pre_hooks.values() if _is_of_torch(hook)]
    return {getattr(hook, "name", getattr(hook, "_tensor_name", "")) for hook in hooks}


def hooks_that_alter(module: nn.Module) -> bool:
    """Whether hooks may change the arguments of the module."""
    return not all(map(_is_of_torch, module._forward_pre_hooks.values()))


def _is_of_torch(hook: Any) -> bool:
    return any(cls.__module__.startswith("torch.nn.utils") for cls in type(hook).__mro__)


def is_random(module: nn.Module) -> bool:
    """Whether a module or one in it draws random numbers in training."""
    return any(own.training and "drop" in type(own).__name__.lower() for own in module.modules())


def share_memory(tensors: Iterable[Tensor], others: Iterable[Tensor]) -> bool:
    """Whether any of some tensors may lie in the memory of one of the others."""
    places = {tensor.untyped_storage().data_ptr() for tensor in tensors} - {0}
    return any(tensor.untyped_storage().data_ptr() in places for tensor in others)


@contextmanager
def buffers_kept(module: nn.Module) -> Iterator[None]:
    """Restore the buffers of a module and of the modules in it afterwards."""
    held = [
        (own, name, buffer, buffer.clone())
        for own in module.modules()
        for name, buffer in own._buffers.items()
        if buffer is not None
    ]
    yield
    for own, name, buffer, value in held:
        buffer.data.copy_(value)  # batch norm writes without a new version
        own._buffers[name] = buffer


def modules_seen_from(module: nn.Module) -> Iterator[nn.Module]:
    """Modules outside a module that its attributes refer to."""
    inside = set(module.modules())
    for name, value in vars(module).items():
        if name not in _MACHINERY and name != "_modules":
            yield from (held for held in _modules_in(value) if held not in inside)


def _modules_in(value: Any) -> Iterator[nn.Module]:
    if isinstance(value, nn.Module):
        yield value
    elif isinstance(value, list | tuple | set | frozenset):
        yield from (item for item in value if isinstance(item, nn.Module))
    elif isinstance(value, Mapping):
        yield from (item for item in value.values() if isinstance(item, nn.Module))
    elif isinstance(value, MethodType):
        yield from _modules_in(value.__self__)
    elif isinstance(value, functools.partial):
        yield from _modules_in([value.func, *value.args, *value.keywords.values()])
        yield from _modules_in(value.func)
