"""Atomic writes: a file is written whole or not at all."""

import errno
import json
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_LEFTOVER = re.compile(r"\..+\.[0-9a-f]{16}\.tmp")


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a path to write to, which replaces ``path`` when the ``with`` block ends.

    The new file lies beside ``path``, whose folder is made. After a crash at any moment ``path``
    holds the old content or the new, never a part. The name of the new file cannot be foreseen:
    where others may write too, a prepared link would send the content elsewhere.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     with atomic_path(Path(folder) / "notes.txt") as temporary:
        ...         _ = temporary.write_text("whole")
        ...     (Path(folder) / "notes.txt").read_text()
        'whole'
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name[:100]}.{secrets.token_hex(8)}.tmp")
    owner = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        _hold(owner)
        yield temporary
        with temporary.open("r+b") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        os.close(owner)
        temporary.unlink(missing_ok=True)


def remove_leftovers(folder: Path, below: str = "") -> None:
    """Remove the half-written files of killed processes in a folder.

    Args:
        folder: The folder.
        below: ``"*/"`` for the folders in it, ``"**/"`` for all folders below it.
    """
    for path in folder.glob(f"{below}.*.tmp"):
        if _LEFTOVER.fullmatch(path.name) and _abandoned(path):
            path.unlink(missing_ok=True)


def write_atomically(path: Path, text: str) -> None:
    """Replace ``path`` by ``text``, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    """Write indented JSON atomically; NaN and infinity, which JSON lacks, raise a ValueError."""
    write_atomically(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def check_writable(path: Path, name: str) -> None:
    """Check before any work that a file can be written, or a folder made.

    Args:
        path: The file or folder.
        name: Name of the path in the error, e.g. ``--out``.

    Raises:
        ValueError: It cannot be written.
    """
    nearest = next((folder for folder in (path, *path.parents) if os.path.lexists(folder)), Path())
    if nearest != path and not nearest.is_dir():
        raise ValueError(f"{name} {path} cannot be written: {nearest} is no folder; give another path")
    if not os.access(nearest, os.W_OK):
        raise ValueError(f"{name} {path} cannot be written: no permission in {nearest}; give another path")
    limit = (
        os.pathconf(nearest if nearest.is_dir() else nearest.parent, "PC_NAME_MAX") if hasattr(os, "pathconf") else 255
    )
    for part in path.parts:
        if len(os.fsencode(part)) > limit:
            raise ValueError(f"{name} {path} cannot be written: {os.strerror(errno.ENAMETOOLONG)}; give another path")


def _hold(owner: int) -> None:
    """Lock an open file while this process lives, which shows that it is not abandoned."""
    if fcntl is not None:
        fcntl.flock(owner, fcntl.LOCK_EX)


def _abandoned(path: Path) -> bool:
    """Whether no living process writes a file."""
    if fcntl is None:
        return False
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    else:
        return True
    finally:
        os.close(file)
