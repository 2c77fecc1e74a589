"""MATLAB's files up to version 7.2, read with suspicion: every error names the file.

Structs become dictionaries, an array of structs a list of them. Nothing in such a file is run.
"""

from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import loadmat

from recon.files.reading import open_regular


def read_matlab(path: Path, name: str) -> Any:
    """A variable of a file.

    Raises:
        ValueError: The file cannot be read, is damaged, or has no such variable.
    """
    try:
        with open_regular(path) as file:
            content = loadmat(file, simplify_cells=True)
    except Exception as error:  # a damaged file raises errors of a dozen types
        raise ValueError(
            f"{path} cannot be read, is truncated, or is no MATLAB file ({error}); get it again"
        ) from error
    if name not in content:
        found = ", ".join(repr(key) for key in content if not key.startswith("__")) or "nothing"
        raise ValueError(f"{path} has no {name!r}, it holds {found}; it is not the official file")
    return content[name]


def field(record: Any, name: str, path: Path) -> Any:
    """A field of a struct.

    Raises:
        ValueError: There is no such field.
    """
    if not isinstance(record, dict) or name not in record:
        raise ValueError(f"{path} has no field {name!r} where it should; it is not the official file")
    return record[name]


def structs(value: Any) -> list[Any]:
    """An array of structs as a list; MATLAB does not tell one struct from an array of one."""
    if isinstance(value, np.ndarray):
        return list(value.ravel())
    return value if isinstance(value, list) else [value]


def label_array(value: Any, what: str, path: Path) -> np.ndarray:
    """An array ``(H, W)`` of whole numbers.

    Raises:
        ValueError: It is something else.
    """
    array = np.asarray(value)
    if array.ndim != 2 or array.dtype.kind not in "biuf":
        raise ValueError(f"{path}: {what} is no array of height and width; it is not the official file")
    if array.dtype.kind == "f" and not np.array_equal(array, np.rint(array)):
        raise ValueError(f"{path}: {what} holds fractions; it is not the official file")
    return array
