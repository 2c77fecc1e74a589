"""Names: what a task may be called, modules by name, and errors for names that do not exist, which say the nearest."""

import keyword
import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from importlib import import_module
from itertools import count

from torch import nn


def unknown_name(kind: str, name: str, known: Iterable[str], where: str = "") -> ValueError:
    """Build the error for a name that is not among the known ones.

    Args:
        kind: What the name stands for, e.g. ``"layer"``.
        name: The name that was given.
        known: The names that exist.
        where: Where it was looked for, e.g. ``"ResNet"``; left out of the message when empty.
    """
    known = list(known)
    # Names with a prefix too many or too few ("backbone.conv1") are common, and difflib's ratio alone misses them.
    parts = [other for other in known if other and (other in name or name in other)]
    nearest = get_close_matches(name, known, n=3) or parts[:3]
    place = f" in {where}" if where else ""
    if nearest:
        cure = "nearest: " + ", ".join(repr(other) for other in nearest)
    elif not known:
        cure = "there is none"
    else:
        cure = f"known: {', '.join(map(repr, known[:20]))}{', ...' if len(known) > 20 else ''}"
    return ValueError(f"unknown {kind} {name!r}{place}; {cure}")


def import_by_name(name: str) -> None:
    """Import a module of the user's own, such as one that registers methods.

    Raises:
        ValueError: There is no such module, a module that it imports is missing, or it raises an error of its own.
    """
    if not all(part.isidentifier() for part in name.split(".")):
        raise ValueError(f"cannot import {name!r}; give a module's name, as after Python's import")
    try:
        import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise ValueError(f"cannot import {name!r} ({error}); run where it can be found, or install it") from error
        raise ValueError(f"cannot import {name!r}: it imports {error.name!r}, which is not installed") from error
    except Exception as error:  # a module may raise anything
        raise ValueError(f"cannot import {name!r}: {type(error).__name__}: {error}") from error


def check_task_names(names: Sequence[str]) -> tuple[str, ...]:
    """The names of a network's tasks: different identifiers, under which ``nn.ModuleDict`` can hold heads.

    Raises:
        ValueError: A name is repeated, no identifier, or one that ``nn.ModuleDict`` uses itself (``keys``, ...); the
            error proposes one that works.
    """
    if isinstance(names, str):
        raise ValueError(f"tasks is {names!r}; give a list of names")
    for name in names:
        if not _is_identifier(name):
            raise ValueError(
                f"task name {name!r} is not an identifier; use letters, digits and underscores, "
                f"such as {_allowed_name(name, names)!r}"
            )
        if hasattr(nn.ModuleDict(), name):
            raise ValueError(
                f"task name {name!r} is one that nn.ModuleDict uses itself; try {_allowed_name(name, names)!r}"
            )
        if list(names).count(name) > 1:
            raise ValueError(f"task name {name!r} is given more than once; each task needs its own")
    return tuple(names)


def _is_identifier(name: object) -> bool:
    return isinstance(name, str) and name.isidentifier() and not keyword.iskeyword(name)


def _allowed_name(name: object, others: Sequence[object]) -> str:
    """A name for a task that is allowed, near to the one given and unlike the others'."""
    near = re.sub(r"\W+", "_", str(name)).strip("_") or "task"
    if not near.isidentifier():  # it begins with a digit
        near = f"task_{near}"
    if keyword.iskeyword(near) or hasattr(nn.ModuleDict(), near):
        near = f"{near}_task"
    allowed = near
    for number in count(2):
        if allowed not in others:
            break
        allowed = f"{near}_{number}"
    return allowed


_LONGEST_NAME = 150  # bytes; file systems take 255, and more is added to it
_NO_FOLDER = set('/\\<>:"|?*')


def check_folder_name(name: str, what: str) -> None:
    """Check that every common file system takes a name for one folder, and for no other place.

    Args:
        name: The name.
        what: What it is, for the error.

    Raises:
        ValueError: It is empty or long, leads elsewhere (``../x``), or has characters that some file system refuses.
    """
    strange = sorted(letter for letter in set(name) if letter in _NO_FOLDER or not letter.isprintable())
    if strange:
        reason = f"has {', '.join(map(repr, strange))}"
    elif len(name.encode()) > _LONGEST_NAME:
        reason = f"has {len(name.encode())} bytes, more than {_LONGEST_NAME}"
    elif name.strip() != name or name.strip(".") != name or not name:
        reason = "is empty, or begins or ends with a space or a point"
    else:
        return
    raise ValueError(f"the {what} is {name!r}, which {reason}, so no folder can bear it; give another name")
