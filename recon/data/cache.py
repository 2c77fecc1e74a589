"""An on-disk cache for expensive arrays; damaged or stale files are rebuilt."""

import json
import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.lib.npyio import NpzFile
from platformdirs import user_cache_path

from recon.files.atomic import atomic_path
from recon.files.reading import open_regular

Arrays = dict[str, np.ndarray]


def user_cache() -> Path:
    """Recon's folder among a user's caches: ``$XDG_CACHE_HOME/recon``, or the system's own.

    On Linux it is ``~/.cache/recon`` by default.
    """
    return user_cache_path("recon")


def is_writable(directory: Path) -> bool:
    """Whether a directory may be written to, or else the nearest one above it that exists.

    A directory without any write permission counts as read-only for the superuser too, who could
    still write to it.
    """
    existing = next(path for path in (directory, *directory.absolute().parents) if os.path.exists(path))
    return existing.is_dir() and os.access(existing, os.W_OK) and bool(existing.stat().st_mode & 0o222)


def cached(name: str, header: Mapping[str, object], directories: Sequence[Path], make: Callable[[], Arrays]) -> Arrays:
    """Read arrays from the first directory that has them, or make and keep them.

    New arrays are kept in the first directory that is writable. A file that is damaged or has
    another header is made again, with a warning.

    Args:
        name: The file's name; it ends in ``.npz``.
        header: Everything that the arrays depend on, as JSON. A file with another header is not
            used.
        directories: The directories to look in, and then to write to, in this order.
        make: Makes the arrays.
    """
    text = json.dumps(header, sort_keys=True)
    for directory in directories:
        try:
            return _read(directory / name, text)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except Exception as error:  # a damaged archive raises errors of a dozen types
            warnings.warn(f"{directory / name} cannot be used ({error}); it is made again", stacklevel=2)
    arrays = make()
    for directory in filter(is_writable, directories):
        try:
            _write(directory / name, text, arrays)
            break
        except OSError as error:
            warnings.warn(f"{directory / name} cannot be written ({error})", stacklevel=2)
    return arrays


def _read(path: Path, header: str) -> Arrays:
    with open_regular(path) as file, NpzFile(file, allow_pickle=False) as contents:
        names = [name for name in contents if name != "header"]
        if contents["header"].item() != _sealed(header, names):
            raise ValueError("its header is another one")
        return {name: contents[name] for name in names}


def _write(path: Path, header: str, arrays: Arrays) -> None:
    with atomic_path(path) as unfinished, unfinished.open("wb") as file:
        np.savez(file, allow_pickle=False, header=np.array(_sealed(header, arrays)), **arrays)


def _sealed(header: str, names: Iterable[str]) -> str:
    """The header with the names of the arrays: a zip file with a damaged end may lose some."""
    return json.dumps([header, *sorted(names)])
