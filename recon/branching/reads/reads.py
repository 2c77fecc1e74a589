"""The Python state of its modules that a forward reads and changes while it is traced."""

import inspect
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FunctionType
from typing import Any
from unittest.mock import patch

from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves

from recon.branching.layers import join
from recon.branching.reads.python_state import freeze, is_constant, same_constant
from recon.branching.reads.surroundings import writes
from recon.branching.values import Untraceable

Name = tuple[str, str]  # an attribute: the path of its module, and its own name

MISSING = object()
_MACHINERY = frozenset(vars(nn.Module())) - {"training"}


OUTSIDE = "outside"  # the path in the name of a variable outside all modules


@dataclass(frozen=True)
class Dependencies:
    """The state on which a trace depends.

    Attributes:
        values: Attributes of modules that the forward read: the constant, or the frozen content of
            anything else; ``MISSING`` where there was nothing.
        functions: The methods that the forward went through, which may read variables outside of
            them.
        entered: The modules whose forward ran.
    """

    values: dict[Name, Any]
    functions: tuple[FunctionType, ...]
    entered: tuple[str, ...]


class Changed(Untraceable):
    """A forward changes the attribute ``name`` of the module at ``path``."""

    def __init__(self, path: str, name: str) -> None:
        super().__init__(f"it sets the attribute {join(path, name)!r}, so that one call may depend on the one before")
        self.path = path


class Reads:
    """Records the reads of a network's forward."""

    def __init__(self, root: nn.Module) -> None:
        self._values: dict[Name, Any] = {}
        self._functions: list[FunctionType] = []
        self._modules = dict(root.named_modules())
        self._paths = {id(module): path for path, module in self._modules.items()}
        self._before = {path: _held(module) for path, module in self._modules.items()}

    @contextmanager
    def recorded(self, stand_in: Callable[[str, str, Any], Any]) -> Iterator[None]:
        """Record all reads.

        Args:
            stand_in: Given path, name and value of a read, returns the value that the forward sees.
        """
        paths = self._paths

        def read(module: nn.Module, name: str) -> Any:
            machinery = name in _MACHINERY or name.startswith("__") or name == "forward"
            path = None if machinery else paths.get(id(module))
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

    def enter(self, path: str) -> None:
        """Record that the forward of a module runs.

        torch.fx reads the forward of modules that it does not enter, too.
        """
        self._note(path, "forward", object.__getattribute__(self._modules[path], "forward"))

    def _note(self, path: str, name: str, value: Any) -> bool:
        """Record a read, and return whether it is of the state before the call."""
        held = self._before[path].get(name, MISSING)
        if held is MISSING:
            if name in vars(self._modules[path]):
                return False  # set by the forward itself
            of_class = _of_class(self._modules[path], name)
            if of_class is MISSING or hasattr(of_class, "__get__"):
                self._note_function(of_class)
                return False
        if isinstance(held, FunctionType):
            self._note_function(held)
        if held is not MISSING and value is not held:
            return False
        if (path, name) not in self._values and not isinstance(value, fx.Proxy):
            self._values[path, name] = value if is_constant(value) else freeze(value)
        return True

    def _note_function(self, value: Any) -> None:
        """Record a method or property that the forward goes through."""
        function = value.fget if isinstance(value, property) else inspect.unwrap(getattr(value, "__func__", value))
        if not isinstance(function, FunctionType) or function in self._functions:
            return
        if name := writes(function):
            raise Untraceable(f"it sets the variable {name!r} outside of itself")
        self._functions.append(function)

    def _miss(self, module: nn.Module, path: str, name: str) -> None:
        registered = (module._parameters, module._buffers, module._modules)
        if not any(name in held for held in registered):
            self._values.setdefault((path, name), MISSING)

    def dependencies(self, entered: Collection[str], opened: Collection[Name]) -> Dependencies:
        """The reads, without the numbers that are read again at every call."""
        values = {name: value for name, value in self._values.items() if name not in opened}
        return Dependencies(values, tuple(self._functions), tuple(dict.fromkeys(entered)))

    def check_unchanged(self) -> None:
        """Compare the state before the forward with the state now.

        Raises:
            Changed: An attribute was changed, or one was set that the forward had looked for
                before.
        """
        for path, module in self._modules.items():
            before = self._before[path]
            now = _held(module)
            for name in {**before, **now}:
                if name in _MACHINERY or name.startswith("_tensor_constant"):
                    continue
                if self._is_changed((path, name), before.get(name, MISSING), now.get(name, MISSING)):
                    raise Changed(path, name)
        for (path, name), read in self._values.items():
            if name not in vars(self._modules[path]) and read is not MISSING:
                value = getattr(self._modules[path], name)  # an attribute of the class
                if self._is_changed((path, name), value, value):
                    raise Changed(path, name)

    def _is_changed(self, name: Name, before: Any, now: Any) -> bool:
        if before is MISSING:
            return name in self._values or any(isinstance(leaf, fx.Proxy) for leaf in tree_leaves(now))
        if before is now:
            read = self._values.get(name, MISSING)
            return not (read is MISSING or is_constant(now) or freeze(now) == read)
        if now is MISSING or is_constant(before) or is_constant(now):
            return not same_constant(before, now)
        return isinstance(before, Tensor | fx.Proxy | nn.Module) or bool(freeze(before) != freeze(now))


def _held(module: nn.Module) -> dict[str, Any]:
    return {**vars(module), **module._buffers}


def _of_class(module: nn.Module, name: str) -> Any:
    """The value of a name in the class of a module or in a class that it derives from."""
    classes = (cls for cls in type(module).__mro__ if cls is not nn.Module)
    return next((vars(cls)[name] for cls in classes if name in vars(cls)), MISSING)
