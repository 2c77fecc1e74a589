"""The variables around functions that they read: globals, and variables of enclosing functions.

They are found in the code of the functions, and in that of the functions they call, except in
libraries.
"""

import dis
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from types import CellType, CodeType, FunctionType, ModuleType
from typing import Any

from recon.branching.reads.python_state import attributes_of, is_constant

_LIBRARIES = frozenset(sys.stdlib_module_names) | {"torch", "numpy", "torchvision", "einops", "timm", "recon"}
_ITEMS = 100  # in the largest container that is read

Place = tuple[Mapping[str, Any], str]  # the place of a value: a dictionary, and its key


class Cell(Mapping[str, Any]):
    """A variable of an enclosing function, as a dictionary."""

    def __init__(self, cell: CellType) -> None:
        self._cell = cell

    def __getitem__(self, key: str) -> Any:
        return self._cell.cell_contents

    def __iter__(self) -> Iterator[str]:
        return iter(("cell_contents",))

    def __len__(self) -> int:
        return 1


def places(function: FunctionType) -> Iterator[Place]:
    """The places of the plain values that a function and its callees read.

    Plain values are numbers, strings and containers of these.
    """
    yield from _places(function, set())


def writes(function: FunctionType) -> str | None:
    """The name of a variable outside a function that it sets; None if it sets none."""
    return _writes(function.__code__)


@cache
def _writes(code: CodeType) -> str | None:
    for step in dis.get_instructions(code):
        if step.opname == "STORE_GLOBAL" or (step.opname == "STORE_DEREF" and step.argval in code.co_freevars):
            return str(step.argval)
    return None


def _places(function: FunctionType, seen: set[int]) -> Iterator[Place]:
    if id(function) in seen:
        return
    seen.add(id(function))
    names = set(_names(function.__code__))
    around: list[Place] = [(function.__globals__, name) for name in names & function.__globals__.keys()]
    cells = [Cell(cell) for cell in function.__closure__ or () if _is_filled(cell)]
    for held, key in (*around, *((cell, "cell_contents") for cell in cells)):
        value = held[key]
        if isinstance(value, FunctionType):
            yield from () if _is_of_library(value.__module__) else _places(value, seen)
        elif _is_plain(value):
            yield held, key
        elif not isinstance(value, type) and not (isinstance(value, ModuleType) and _is_of_library(value.__name__)):
            attributes = vars(value) if attributes_of(value) and hasattr(value, "__dict__") else {}
            yield from ((attributes, name) for name in names & attributes.keys() if _is_plain(attributes[name]))


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):  # a function or comprehension inside
            yield from _names(constant)


def _is_filled(cell: CellType) -> bool:
    try:
        return cell.cell_contents is not cell
    except ValueError:  # the variable has no value yet
        return False


def _is_of_library(name: str | None) -> bool:
    return (name or "").partition(".")[0] in _LIBRARIES


def _is_plain(value: Any) -> bool:
    """Whether a value is a number, a string, None, or a small container of these."""
    if isinstance(value, list | tuple | set | dict):
        items = [*value.values()] if isinstance(value, dict) else [*value]
        return len(items) <= _ITEMS and all(map(_is_plain, items))
    return is_constant(value) and not isinstance(value, type | FunctionType | ModuleType) and not callable(value)
