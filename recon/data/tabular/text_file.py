"""Text files with commas between the cells of a row, gzipped or not."""

import gzip
import hashlib
import sys
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from recon.files.reading import open_regular

_CHUNK = 4096  # rows whose cells are apart in memory at once


class TextFile:
    """A file of rows, read whole.

    Args:
        path: The file; it is gzipped if its name ends in ``.gz``.

    Raises:
        OSError: It cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with open_regular(path) as file:
            self.content = file.read()

    @property
    def digest(self) -> str:
        """SHA-256 of the file."""
        return hashlib.sha256(self.content).hexdigest()

    def columns(self, number: int) -> list[list[str]]:
        """The cells of each column, without blanks around them.

        Args:
            number: How many columns the file should have.

        Raises:
            ValueError: The file is damaged, has no row, or a row has another number of columns.
        """
        lines = [line for line in self._text().splitlines() if line]
        if not lines:
            raise ValueError(f"{self.path} has no rows; get the file again")
        for row, line in enumerate(lines, start=1):
            if line.count(",") != number - 1:
                raise ValueError(
                    f"{self.path} has {line.count(',') + 1} columns in row {row}; the documented form has {number}. "
                    "Give the unchanged file"
                )
        columns: list[list[str]] = [[] for _ in range(number)]
        for chunk in _chunks(lines):
            cells = ",".join(chunk).split(",")
            for index, column in enumerate(columns):
                # Equal cells become one object: the rows of a file have few different ones.
                column.extend(map(sys.intern, cells[index::number]))
        return [_stripped(column) for column in columns]

    def _text(self) -> str:
        try:
            return (gzip.decompress(self.content) if self.path.suffix == ".gz" else self.content).decode()
        except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
            raise ValueError(f"{self.path} is damaged, or no text ({error}); get the file again") from error


def find_file(root: Path, folder: str, name: str) -> Path:
    """A file in ``root/folder`` or in ``root``, with ``.gz`` after its name or without.

    Raises:
        ValueError: There is none; the error names the places.
    """
    places = [root / folder / name, root / name]
    for place in places:
        for path in (place.with_name(f"{name}.gz"), place):
            if path.is_file():
                return path
    raise ValueError(f"there is no {places[0]}, nor {places[1]}, gzipped (.gz) or not; put the file there")


def _stripped(cells: list[str]) -> list[str]:
    """The cells without blanks around them; few of them differ."""
    stripped = {cell: cell.strip() for cell in set(cells)}
    return [stripped[cell] for cell in cells]


def _chunks(lines: list[str]) -> Iterator[list[str]]:
    rest = iter(lines)
    while chunk := list(islice(rest, _CHUNK)):
        yield chunk
