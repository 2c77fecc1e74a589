"""What a forward reads of the Python state of its modules, and changes there, while it is traced."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any
from unittest.mock import patch

from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves

from recon.branching.layers import join
from recon.branching.python_state import freeze, is_constant, same_constant
from recon.branching.values import Untraceable

Name = tuple[str, str]  # of an attribute: the path of its module, and its own name

MISSING = object()
_MACHINERY = frozenset(vars(nn.Module())) - {"training"}


class Changed(Untraceable):
    """A forward changes the attribute `name` of the module at `path`."""

    def __init__(self, path: str, name: str) -> None:
        super().__init__(f"it sets the attribute {join(path, name)!r}, so that one call may depend on the one before")
        self.path = path


class Reads:
    """The reads of the attributes of a network's modules.

    Attributes:
        values: What the first read of an attribute gave: a constant, or for everything else its frozen contents;
            ``MISSING`` if there was no such attribute.
    """

    def __init__(self, root: nn.Module) -> None:
        self.values: dict[Name, Any] = {}
        self._modules = dict(root.named_modules())
        self._paths = {id(module): path for path, module in self._modules.items()}
        self._before = {path: _held(module) for path, module in self._modules.items()}

    @contextmanager
    def recorded(self, stand_in: Callable[[str, str, Any], Any]) -> Iterator[None]:
        """Record all reads.

        Args:
            stand_in: Given path, name and value of what is read, what the forward gets to see.
        """
        paths = self._paths

        def read(module: nn.Module, name: str) -> Any:
            path = None if name in _MACHINERY or name.startswith("__") else paths.get(id(module))
            if path is None:
                return object.__getattribute__(module, name)
            try:
                value = object.__getattribute__(module, name)
            except AttributeError:
                self._miss(module, path, name)
                raise
            return stand_in(path, name, value) if self._note(path, name, value) else value

        with patch.object(nn.Module, "__getattribute__", read, create=True):
            yield

    def _note(self, path: str, name: str, value: Any) -> bool:
        """Note a read; whether it is of the state of before the call."""
        held = self._before[path].get(name, MISSING)
        if held is MISSING and (name in vars(self._modules[path]) or not _is_class_constant(self._modules[path], name)):
            return False  # set by the forward itself, or a method
        if held is not MISSING and value is not held:
            return False
        if (path, name) not in self.values and not isinstance(value, fx.Proxy):
            self.values[path, name] = value if is_constant(value) else freeze(value)
        return True

    def _miss(self, module: nn.Module, path: str, name: str) -> None:
        registered = (module._parameters, module._buffers, module._modules)
        if not any(name in held for held in registered):
            self.values.setdefault((path, name), MISSING)

    def check_unchanged(self) -> None:
        """Compare what there was before the forward with what there is now.

        Raises:
            Changed: If an attribute was changed, or one was set that the forward had looked for before.
        """
        for path, module in self._modules.items():
            before = self._before[path]
            now = _held(module)
            for name in {**before, **now}:
                if name in _MACHINERY or name.startswith("_tensor_constant"):
                    continue
                if self._is_changed((path, name), before.get(name, MISSING), now.get(name, MISSING)):
                    raise Changed(path, name)
        for (path, name), read in self.values.items():
            if name not in vars(self._modules[path]) and read is not MISSING:
                value = getattr(self._modules[path], name)  # of the class
                if self._is_changed((path, name), value, value):
                    raise Changed(path, name)

    def _is_changed(self, name: Name, before: Any, now: Any) -> bool:
        if before is MISSING:
            return name in self.values or any(isinstance(leaf, fx.Proxy) for leaf in tree_leaves(now))
        if before is now:
            read = self.values.get(name, MISSING)
            return not (read is MISSING or is_constant(now) or freeze(now) == read)
        if now is MISSING or is_constant(before) or is_constant(now):
            return not same_constant(before, now)
        return isinstance(before, Tensor | fx.Proxy | nn.Module) or bool(freeze(before) != freeze(now))


def _held(module: nn.Module) -> dict[str, Any]:
    return {**vars(module), **module._buffers}


def _is_class_constant(module: nn.Module, name: str) -> bool:
    """Whether the class of a module holds a plain value of this name, and no method or property."""
    for cls in type(module).__mro__:
        if name in cls.__dict__ and cls is not nn.Module:
            value = cls.__dict__[name]
            return not hasattr(value, "__get__") and not isinstance(value, MethodType)
    return False
