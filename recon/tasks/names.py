"""The names that tasks may have."""

import keyword
import re
from collections.abc import Sequence
from itertools import count

from torch import nn


def check_task_names(names: Sequence[str]) -> tuple[str, ...]:
    """The names of a network's tasks: different identifiers that ``nn.ModuleDict`` can hold.

    >>> check_task_names(["digit", "letter"])
    ('digit', 'letter')

    Raises:
        ValueError: A name is repeated, no identifier, or one that ``nn.ModuleDict`` uses itself
            (``keys``, ...); the error proposes one that works.
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
    """An allowed name for a task, near to the one given and different from the others."""
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
