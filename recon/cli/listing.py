"""The command ``recon list``: the names that configurations and plans may have, with a pattern."""

import sys
from collections.abc import Callable, Collection
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any, Literal, get_args

from recon.cli.imports import imported
from recon.errors import unknown_name

Kind = Literal["methods", "backbones", "data", "tasks", "architectures"]


def list_names(kind: str | None = None, pattern: str = "*", /) -> None:
    """Print the names of a kind with what each is, a line each.

    Args:
        kind: One of methods, backbones, data, tasks, architectures. Without a kind, the kinds are
            printed.
        pattern: A name, or a pattern with * and ? in quotes, such as '*grad*'; case does not
            matter. Without the names of modules it matches the last word of a class path.
    """
    known = _LISTS if kind is None else names_of(kind)
    names = list(known) if kind is None else matching(pattern, known, kind)
    width = max(map(len, names))
    for name in names:
        print(f"{name:<{width}}  {(known[name].__doc__ or '').strip().partition(chr(10))[0]}".rstrip())


def names_of(kind: str) -> dict[str, Any]:
    """The names of a kind, each with its class or function.

    Args:
        kind: One of methods, backbones, data, tasks, architectures.

    Raises:
        ValueError: It is another; the error suggests the nearest.
    """
    if kind not in _LISTS:
        raise unknown_name("kind", kind, get_args(Kind))
    return _LISTS[kind]()


def matching(pattern: str, known: Collection[str], kind: str) -> list[str]:
    """The names that a pattern matches, in their order.

    >>> matching("*GRAD", ["recon.data.Glyphs", "pcgrad", "cagrad"], "methods")
    ['pcgrad', 'cagrad']

    Args:
        pattern: The pattern; it matches a whole name, or the last word of a class path.
        known: All names.
        kind: The kind, in the plural, for the error.

    Raises:
        ValueError: There is none; the error suggests the nearest.
    """
    wanted = pattern.lower()
    found = [name for name in known if any(fnmatchcase(word, wanted) for word in _words(name))]
    if not found:
        raise ValueError(f"no name of {kind} matches {pattern!r}; {_nearest(wanted.strip('*?'), known, kind)}")
    return found


def _words(name: str) -> tuple[str, str]:
    """A name in lower case, and the last word of it."""
    return name.lower(), name.lower().rpartition(".")[2]


def _nearest(text: str, known: Collection[str], kind: str) -> str:
    words = {_words(name)[1]: name for name in known}
    nearest = [words[word] for word in get_close_matches(text, words, n=3, cutoff=0.5)]
    if nearest:
        return f"nearest: {', '.join(map(repr, nearest))}"
    return f"recon list {kind} lists all {len(known)}"


def _methods() -> dict[str, Any]:
    """The methods that combine task gradients."""
    from recon.methods import list_methods
    from recon.methods.base.registry import method_class

    return {name: method_class(name) for name in list_methods()}


def _architectures() -> dict[str, Any]:
    """The architectures that a network may have in place of one shared backbone."""
    from recon.models.architectures.catalogue import ARCHITECTURES

    return {name: ARCHITECTURES[name] for name in sorted(ARCHITECTURES)}


def _backbones() -> dict[str, Any]:
    """The networks that tasks share."""
    from torch import nn

    import recon.models
    from recon.models.backbones.tabular_net import ColumnEmbedding

    members = {f"recon.models.{name}": getattr(recon.models, name) for name in recon.models.__all__}
    ours = {name: one for name, one in members.items() if one.__module__.startswith("recon.models.backbones.")}
    own = _of_own(nn.Module)
    return {name: one for name, one in ours.items() if one is not ColumnEmbedding} | own


def _data() -> dict[str, Any]:
    """The data modules."""
    import pytorch_lightning as pl

    import recon.data

    members = {f"recon.data.{name}": getattr(recon.data, name) for name in recon.data.__all__}
    return members | _of_own(pl.LightningDataModule)


def _tasks() -> dict[str, Any]:
    """The kinds of tasks, each with its loss and metrics."""
    import recon.tasks

    kinds = {f"recon.tasks.{name}": getattr(recon.tasks, name) for name in recon.tasks.__all__}
    return {name: kind for name, kind in kinds.items() if name[12:].islower()}


def _of_own(kind: type) -> dict[str, type]:
    """The classes of a kind that the modules named by ``--import`` define."""
    modules = [sys.modules[name] for name in imported]
    found = [one for module in modules for one in vars(module).values() if isinstance(one, type)]
    return {f"{one.__module__}.{one.__qualname__}": one for one in found if _is_own(one, kind)}


def _is_own(one: type, kind: type) -> bool:
    return issubclass(one, kind) and one.__module__ in imported and not one.__name__.startswith("_")


_LISTS: dict[str, Callable[[], dict[str, Any]]] = {
    "methods": _methods,
    "backbones": _backbones,
    "data": _data,
    "tasks": _tasks,
    "architectures": _architectures,
}
