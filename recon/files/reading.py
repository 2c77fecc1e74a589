"""Strict reading of JSON files of unknown origin: every error says what was found where."""

import errno
import json
import os
import stat
from io import BufferedReader
from pathlib import Path
from typing import Any, NoReturn

# Compared with type(value), because isinstance takes true and false for integers.
NUMBER = (int, float)


def open_regular(path: str | Path) -> BufferedReader:
    """Open a file to be read.

    Raises:
        OSError: The file cannot be opened, or is not a regular file; a pipe or a device could make
            the reader wait for ever.
    """
    file = os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    return file


def read_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in ``path``.

    Raises:
        ValueError: The file is truncated or not JSON, holds no object, names a key twice, or holds
            NaN.
        OSError: The file cannot be read.
    """
    with open_regular(path) as file:
        content = file.read()
    try:
        record = json.loads(content, object_pairs_hook=_unique_keys, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} is truncated or not JSON ({error}); restore it from a copy, or write it again"
        ) from error
    if type(record) is not dict:
        raise ValueError(f"{path} holds a JSON {type(record).__name__}, not an object; give another file")
    return record


def require(record: Any, key: str, types: tuple[type, ...], where: str) -> Any:
    """Return ``record[key]``, or raise a ValueError unless it is of one of the JSON ``types``.

    Args:
        record: The record.
        key: The key.
        types: Types that the value may have; ``bool`` is no ``int`` here.
        where: Name of the record, for the error.

    Example:
        >>> require({"layers": 3}, "layers", (int,), "the file")
        3
    """
    if type(record) is not dict:
        raise ValueError(f"{where} is {_short(record)}, not an object")
    if key not in record:
        raise ValueError(f"{where} has no {key!r}")
    if type(record[key]) not in types:
        expected = " or ".join(kind.__name__ for kind in types)
        raise ValueError(f"{key!r} of {where} is {_short(record[key])}, not {expected}")
    return record[key]


def require_count(value: Any, what: str) -> int:
    """Return ``value``, which must be a whole number from 0 up that fits into 64 bits.

    Args:
        value: The value.
        what: Name of the value, for the error.
    """
    if type(value) is not int or not 0 <= value < 2**63:
        raise ValueError(f"{what} is {_short(value)}, not a count")
    return value


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"{next(key for key in keys if keys.count(key) > 1)!r} is there twice")
    return record


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")
