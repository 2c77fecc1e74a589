"""What calling a module does beside returning its output."""

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
    """Path -> what a module holds besides registered tensors, in a form that is equal as long as nothing is changed."""
    frozen: dict[int, Any] = {}
    return {path: _attributes(module, frozen) for path, module in modules.items()}


def _attributes(module: nn.Module, frozen: dict[int, Any]) -> list[tuple[str, Any]]:
    left_out = _LEFT_OUT | _computed(module) if module._forward_pre_hooks else _LEFT_OUT
    return [(name, _frozen(value, frozen)) for name, value in vars(module).items() if name not in left_out]


def _frozen(value: Any, frozen: dict[int, Any]) -> Any:
    if id(value) not in frozen:
        try:
            frozen[id(value)] = freeze(value)
        except Untraceable:  # too large to be looked through
            frozen[id(value)] = id(value)
    return frozen[id(value)]


def _computed(module: nn.Module) -> set[str]:
    """The attributes that hooks of PyTorch's own (weight norm, spectral norm, pruning) compute before each call."""
    hooks = [hook for hook in module._forward_pre_hooks.values() if _is_of_torch(hook)]
    return {getattr(hook, "name", getattr(hook, "_tensor_name", "")) for hook in hooks}


def hooks_that_alter(module: nn.Module) -> bool:
    """Whether hooks may change what the module is given."""
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
    """Put the buffers of a module and of those in it back afterwards."""
    held = [
        (own, name, buffer, buffer.clone())
        for own in module.modules()
        for name, buffer in own._buffers.items()
        if buffer is not None
    ]
    yield
    for own, name, buffer, value in held:
        buffer.data.copy_(value)  # the version does not tell whether batch norm wrote to it
        own._buffers[name] = buffer


def modules_seen_from(module: nn.Module) -> Iterator[nn.Module]:
    """Modules that a module refers to without having them inside, as far as its attributes tell."""
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
