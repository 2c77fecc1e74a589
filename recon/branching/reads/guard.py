"""Whether the Python state that a trace read of a backbone is still the same.

The question comes at every step, so the guard is one loop over entries of dictionaries. It walks
only through lists, dictionaries and objects that the forward reads.
"""

from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, fx, nn

from recon.branching.layers import join
from recon.branching.reads.python_state import freeze, is_constant, same_constant
from recon.branching.reads.reads import MISSING, OUTSIDE, Dependencies, Name
from recon.branching.reads.surroundings import places
from recon.branching.values import Untraceable

Homes = Callable[[str], Sequence[nn.Module]]
Entry = tuple[Mapping[str, Any], str, Any]  # a dictionary, a key, and the value that was there

_DROPS = ("training", "p", "drop_prob")


@dataclass(frozen=True)
class Guard:
    """The state that must not have changed.

    Attributes:
        entries: Constants and modules, by the place that holds them.
        contents: Everything else that was read, frozen.
        sizes: Containers of modules and hooks, and their sizes.
        names: Names of the attributes in ``entries``, and then in ``contents``.
    """

    entries: tuple[Entry, ...] = ()
    contents: tuple[Entry, ...] = ()
    sizes: tuple[tuple[Sized, int], ...] = ()
    names: tuple[Name | None, ...] = ()

    def holds(self) -> bool:
        """Whether all of the state is unchanged."""
        for held, key, expected in self.entries:
            value = held.get(key, MISSING)
            if value is not expected and not same_constant(value, expected):
                return False
        for container, size in self.sizes:
            if len(container) != size:
                return False
        return not self.contents or _same_contents(self.contents)

    def changed(self) -> Name | None:
        """The first attribute that has changed; None if the change is elsewhere."""
        for (held, key, expected), name in zip(self.entries, self.names, strict=False):
            if name and not same_constant(held.get(key, MISSING), expected):
                return name
        for entry, name in zip(self.contents, self.names[len(self.entries) :], strict=True):
            if not _same_contents([entry]):
                return name
        return None

    def expects_number(self, name: Name) -> bool:
        """Whether an attribute was a number, and not a boolean."""
        values = [expected for (_, _, expected), own in zip(self.entries, self.names, strict=False) if own == name]
        return bool(values) and all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def _same_contents(contents: Sequence[Entry]) -> bool:
    if torch.compiler.is_compiling():  # compiled code cannot read them; elsewhere this is free
        return bool(torch.compiler.disable(_same_contents)(contents))
    return all(freeze(held.get(key, MISSING)) == frozen for held, key, frozen in contents)


def guard(dependencies: Dependencies, homes: Homes, more: Mapping[Name, Any] = MappingProxyType({})) -> Guard:
    """Make the guard for which a trace holds.

    Args:
        dependencies: The state on which the trace depends.
        homes: Path in the backbone -> the modules that stand for it in the branched network.
        more: More values of attributes of modules.

    Raises:
        Untraceable: The tasks' own modules hold different values.
    """
    watched = _Watched()
    for (path, name), read in {**more, **dependencies.values}.items():
        for module in homes(path):
            watched.add_attribute(module, (path, name), read)
    for path in dependencies.entered:
        for module in homes(path):
            watched.add_module(module)
    for held, key in {(id(held), key): (held, key) for f in dependencies.functions for held, key in places(f)}.values():
        watched.add_variable(held, key)
    return watched.guard()


class _Watched:
    def __init__(self) -> None:
        self._entries: list[tuple[Entry, Name | None]] = []
        self._contents: dict[int, tuple[Entry, Name]] = {}
        self._sizes: list[tuple[Sized, int]] = []

    def add_attribute(self, module: nn.Module, name: Name, read: Any) -> None:
        key = name[1]
        held = _holder(module, key)
        value = held.get(key, MISSING)
        if held is not vars(module):
            self._entries.append(((vars(module), key, MISSING), name))
        if read is MISSING or is_constant(read):
            # A program for the other mode does not have the present flags.
            if key != "training" and not (value is read or same_constant(value, read)):
                raise Untraceable(f"tasks differ in the attribute {join(*name)!r}")
            self._entries.append(((held, key, read), name))
        elif isinstance(value, nn.Module) or id(value) in self._contents:
            self._entries.append(((held, key, value), name))
        elif not isinstance(value, Tensor):
            self._contents[id(value)] = (held, key, freeze(value)), name

    def add_variable(self, held: Mapping[str, Any], key: str) -> None:
        value = held[key]
        if is_constant(value):
            self._entries.append(((held, key, value), (OUTSIDE, key)))
        else:
            self._contents.setdefault(id(value), ((held, key, freeze(value)), (OUTSIDE, key)))

    def add_module(self, module: nn.Module) -> None:
        self._entries.append(((vars(module), "forward", vars(module).get("forward", MISSING)), None))
        self._entries += [((module._modules, name, child), None) for name, child in module._modules.items()]
        containers = (module._modules, module._forward_hooks, module._forward_pre_hooks)
        self._sizes += [(container, len(container)) for container in containers]

    def guard(self) -> Guard:
        together = [*self._entries, *self._contents.values()]
        return Guard(
            tuple(entry for entry, _ in self._entries),
            tuple(entry for entry, _ in self._contents.values()),
            tuple(self._sizes),
            tuple(name for _, name in together),
        )


def reads_of_memory(graph: fx.Graph, root: nn.Module) -> dict[Name, Any]:
    """The attributes by which called modules write into their input or pass it on."""
    reads: dict[Name, Any] = {}
    for node in graph.nodes:
        if node.op == "call_module":
            path = str(node.target)
            module = root.get_submodule(path)
            names = ("inplace", *(_DROPS if "drop" in type(module).__name__.lower() else ()))
            reads |= {(path, name): vars(module)[name] for name in names if name in vars(module)}
    return reads


def _holder(module: nn.Module, name: str) -> Mapping[str, Any]:
    """The dictionary that holds a module's attribute: the module's own, or that of a class."""
    if name not in vars(module):
        for cls in type(module).__mro__:
            if name in cls.__dict__:
                return cls.__dict__
    return vars(module)
