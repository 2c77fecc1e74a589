"""PNG and JPEG files of a distribution, read with suspicion: every error names the file."""

import io
import os
import warnings
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from recon.data.preparation.resizing import Size
from recon.files.reading import open_regular

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_END = b"\x00\x00\x00\x00IEND\xaeB`\x82"


def check_png(path: Path, size: Size) -> None:
    """Check by its first and last bytes that a file is a whole PNG, without decoding it.

    Args:
        path: The file.
        size: Height and width that it must have.

    Raises:
        ValueError: It is missing, no PNG, cut short, or of another size.
    """
    try:
        with open_regular(path) as file:
            head = file.read(24)
            file.seek(-min(len(_END), path.stat().st_size), io.SEEK_END)
            tail = file.read()
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}); get it again") from error
    if not head.startswith(_SIGNATURE):
        raise ValueError(f"{path} is no PNG; get it again")
    if tail != _END:
        raise ValueError(f"{path} is truncated; get it again")
    check_size(path, (int.from_bytes(head[20:24]), int.from_bytes(head[16:20])), size)


def check_jpeg(path: Path) -> None:
    """Check by its first and last bytes that a file is a whole JPEG, without decoding it.

    Raises:
        ValueError: It is missing, no JPEG, or cut short.
    """
    try:
        with open_regular(path) as file:
            head = file.read(3)
            file.seek(-min(2, os.fstat(file.fileno()).st_size), io.SEEK_END)
            tail = file.read()
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}); get it again") from error
    if head != b"\xff\xd8\xff":
        raise ValueError(f"{path} is no JPEG; get it again")
    if tail != b"\xff\xd9":
        raise ValueError(f"{path} is truncated; get it again")


def size_of(path: Path, kind: Literal["PNG", "JPEG"]) -> Size:
    """Height and width of a picture, without decoding it.

    Raises:
        ValueError: It cannot be read, or is of another format.
    """
    try:
        with Image.open(path, formats=(kind,)) as picture:
            return picture.height, picture.width
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} is damaged ({error}); get it again") from error


def check_size(what: object, found: tuple[int, ...], expected: Size) -> None:
    """Refuse a picture of another height and width."""
    if found != expected:
        swapped = "; width and height are swapped" if found == expected[::-1] else ""
        raise ValueError(
            f"{what} has {found[0]} rows and {found[1]} columns, not {expected[0]} and {expected[1]}{swapped}"
        )


def decode(
    file: Path | io.BytesIO, what: object, modes: tuple[str, ...], size: Size, kind: Literal["PNG", "JPEG"] = "PNG"
) -> np.ndarray:
    """Read a picture.

    Args:
        file: The file, or its content.
        what: Its name in errors.
        modes: The modes of PIL that it may have.
        size: The height and width that it must have.
        kind: The format that it must have.

    Raises:
        ValueError: It is damaged, of another mode or of another size.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file, formats=(kind,)) as picture:
                mode, found = picture.mode, (picture.height, picture.width)
                check_size(what, found, size)
                array = np.asarray(picture)
    except (OSError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(f"{what} is damaged ({error}); get it again") from error
    if mode not in modes:
        raise ValueError(f"{what} is of mode {mode}, not {' or '.join(modes)}; it is not the official file")
    return array
