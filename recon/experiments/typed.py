"""Values of YAML as the types that a dataclass declares.

jsonargparse reads dataclasses too, but more loosely. It takes quoted text for numbers, builds every
``class_path`` inside a plain dictionary, and does not say which item of a list is wrong.
"""

from dataclasses import MISSING, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin

from recon.errors import unknown_name

T = TypeVar("T")

_TYPES = {str: "text", int: "a whole number", float: "a number", bool: "true or false", dict: "a mapping of keys"}


def read_dataclass(kind: type[T], content: Any, what: str) -> T:
    """Build a dataclass from a mapping of YAML.

    Fields may be text, numbers, true or false, mappings, tuples, literals, dataclasses, or one of
    these or ``None``, or a literal or a mapping. A number is never taken from text.

    >>> from dataclasses import dataclass
    >>> @dataclass
    ... class Size:
    ...     width: int
    ...     height: int = 1
    >>> read_dataclass(Size, {"width": 3}, "a size")
    Size(width=3, height=1)
    >>> read_dataclass(Size, {"widht": 3}, "a size")
    Traceback (most recent call last):
    ValueError: unknown key 'widht'; nearest: 'width'

    Args:
        kind: The dataclass.
        content: The mapping.
        what: What the mapping is, for the error if it is none, e.g. ``"a plan"``.

    Raises:
        ValueError: A key is unknown (the error suggests the nearest), missing or of another type.
    """
    if not isinstance(content, dict):
        raise ValueError(f"{what} must be {_TYPES[dict]}, got {content!r}")
    return cast(T, _read_fields(kind, content, ""))


def _read(kind: Any, value: Any, where: str) -> Any:
    """A value of YAML as the type ``kind``; ``where`` is its key."""
    if isinstance(kind, UnionType) or get_origin(kind) is Union:  # X | None, or a literal | a mapping
        return None if value is None and NoneType in get_args(kind) else _read(_member(kind, value), value, where)
    if is_dataclass(kind):
        return _read_fields(kind, value, where)
    if get_origin(kind) is tuple:
        if not isinstance(value, list | tuple):
            raise ValueError(f"{where} must be a list, got {value!r}")
        return tuple(_read(get_args(kind)[0], item, f"{where}[{index}]") for index, item in enumerate(value))
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise unknown_name(where, str(value), get_args(kind))
        return value
    kind = get_origin(kind) or kind
    # By type and not by isinstance, which takes true for an integer.
    if type(value) is not kind and not (kind is float and type(value) is int):
        raise ValueError(f"{where} must be {_TYPES[kind]}, got {value!r}")
    return value


def _member(kind: Any, value: Any) -> Any:
    """The member of a union to read a value as: of its type, a literal for text, or the first."""
    members = get_args(kind)
    of_type = [each for each in members if (get_origin(each) or each) is type(value)]
    literals = [each for each in members if get_origin(each) is Literal and isinstance(value, str)]
    return [*of_type, *literals, *members][0]


def _read_fields(cls: Any, content: Any, where: str) -> Any:
    if not isinstance(content, dict):
        raise ValueError(f"{where} must be {_TYPES[dict]}, got {content!r}")
    known = {item.name: item for item in fields(cls)}
    for key in content:
        if key not in known:
            raise unknown_name("key", str(key), known, where)
    for name, item in known.items():
        if name not in content and item.default is MISSING and item.default_factory is MISSING:
            raise ValueError(f"{where or 'it'} lacks the key {name!r}")
    prefix = f"{where}." if where else ""
    return cls(**{key: _read(known[key].type, value, f"{prefix}{key}") for key, value in content.items()})
