"""Changes of a module in the shared network, and the same changes of the tasks' own modules."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MethodType
from typing import Any

from torch import Tensor, nn

from recon.branching.copying import deep_copy, modes_of, set_modes
from recon.branching.reads.python_state import freeze, is_constant, same_constant
from recon.branching.reads.reads import MISSING
from recon.branching.state import share_dictionaries
from recon.branching.values import Untraceable

_TENSORS = ("_parameters", "_buffers", "_non_persistent_buffers_set")
_MACHINERY = frozenset(vars(nn.Module())) - {"training"}


class Kept:
    """The state of modules beside tensors, to be compared later; shared objects are read once."""

    def __init__(self) -> None:
        self._frozen: dict[int, Any] = {}

    def state(self, module: nn.Module) -> dict[str, Any]:
        """Attribute -> its value in a form to compare."""
        held = {name: self._kept(value, name) for name, value in vars(module).items() if name not in _TENSORS}
        return {**held, "__class__": type(module)}

    def changes(self, module: nn.Module, seen: Mapping[str, Any]) -> set[str]:
        """The attributes of a module that have changed."""
        held = vars(module)
        changes = {name for name, value in held.items() if name not in _TENSORS and self._differs(seen, name, value)}
        if len(held) != len(seen) + len(_TENSORS) - 1:
            changes |= seen.keys() - held.keys() - {"__class__"}
        return changes

    def _differs(self, seen: Mapping[str, Any], name: str, value: Any) -> bool:
        before = seen.get(name, MISSING)
        if before is value:
            return False
        if name in _MACHINERY and isinstance(value, dict):
            return bool(value or before) and not _same_items(before, value)
        if is_constant(value):
            return not same_constant(before, value)
        return before is MISSING or bool(before != self._freeze(value, before))

    def _kept(self, value: Any, name: str) -> Any:
        if name in _MACHINERY and isinstance(value, dict):
            return value.copy()
        return value if is_constant(value) else self._freeze(value)

    def _freeze(self, value: Any, before: Any = None) -> Any:
        if isinstance(before, _Identity):
            return _Identity(value)
        if id(value) not in self._frozen:
            try:
                self._frozen[id(value)] = freeze(value)
            except Untraceable:  # too large to walk through at every step
                self._frozen[id(value)] = _Identity(value)
        return self._frozen[id(value)]


@dataclass(frozen=True, eq=False)
class _Identity:
    it: Any

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Identity) and self.it is other.it

    __hash__ = object.__hash__


def _same_items(before: Any, after: Mapping[Any, Any]) -> bool:
    if len(before) != len(after):
        return False
    pairs = zip(before.items(), after.items(), strict=True)
    return all(key == own and old is new for (key, old), (own, new) in pairs)


def carry_over(
    module: nn.Module,
    twins: Sequence[nn.Module],
    seen: Mapping[str, Any],
    changes: set[str],
    carriers: Sequence["Carrier"],
) -> None:
    """Change every task's module as the module of the shared network has changed."""
    for twin, carrier in zip(twins, carriers, strict=True):
        twin.__class__ = type(module)
        for name in changes:
            if name not in vars(module):
                vars(twin).pop(name, None)
            elif name in _MACHINERY and isinstance(seen.get(name), dict):
                carrier.items(vars(twin)[name], seen[name], vars(module)[name], name != "_modules")
            else:
                vars(twin)[name] = carrier.value(vars(module)[name])


class Carrier:
    """Copies attributes of shared modules into one task's network."""

    def __init__(self, modules: Mapping[int, nn.Module], tensors: Mapping[int, Tensor]) -> None:
        self._modules = modules
        self._memo: dict[int, Any] = {**modules, **tensors}

    def value(self, value: Any) -> Any:
        """A copy whose modules are those of the task and whose tensors are shared."""
        copied = deep_copy(value, self._memo)
        if isinstance(value, nn.Module) and id(value) not in self._modules:
            set_modes(copied, modes_of(value))
            inside = dict(copied.named_modules())
            for path, home in value.named_modules():
                if path in inside and id(home) not in self._modules:
                    share_dictionaries(home, inside[path])
        return copied

    def items(self, own: dict[Any, Any], before: Mapping[Any, Any], after: Mapping[Any, Any], hooks: bool) -> None:
        """Change modules or hooks as the shared module's have changed, and keep all others."""
        carried = self._hook if hooks else self.value
        followed = {}
        for key, item in after.items():
            if key not in before or before[key] is not item:
                followed[key] = carried(item)
            elif key in own:
                followed[key] = own[key]
        others = {key: item for key, item in own.items() if key not in after and key not in before}
        own.clear()  # handles of hooks refer to this very dictionary
        own.update({**followed, **others})

    def _hook(self, hook: Any) -> Any:
        """The hook itself, or one bound to the task's module in place of the shared one.

        Others may wait for the results of a hook, so it is not copied.
        """
        if isinstance(hook, MethodType):
            return MethodType(hook.__func__, self._modules.get(id(hook.__self__), hook.__self__))
        if isinstance(hook, functools.partial):
            return functools.partial(self._hook(hook.func), *hook.args, **hook.keywords)
        return hook
