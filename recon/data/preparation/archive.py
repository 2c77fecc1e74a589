"""Published normals of NYU Depth v2, read from their archive without unpacking it.

Known layouts, with any folder before them:

    normals/0000.png ... normals/1448.png, and masks/ likewise (0: no truth)
        ``normals_gt.tgz`` of Eigen & Fergus, ICCV 2015; the source of MTAN's release
    train/00003.png, test/00001.png, ..., counted from 1
        ``nyu_normals_gt.zip`` of Ladický, Zeisl & Pollefeys, ECCV 2014

Each is an 8-bit RGB image of the whole frame, in which 0 to 255 stands for -1 to 1.
"""

import io
import re
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from recon.data.preparation.normals import unit_or_zero
from recon.data.preparation.pictures import decode
from recon.data.preparation.resizing import Size

_FROM_ZERO = re.compile(r"(?:^|/)(?P<folder>normals|masks)/(?P<number>\d{4})\.png$")
_FROM_ONE = re.compile(r"(?:^|/)(?P<folder>train|test)/(?P<number>\d{5})\.png$")

_LARGEST = 1 << 24  # bytes of a member; a PNG of 480 x 640 has at most a megabyte


class NormalsArchive:
    """The normals of an archive, by the number of their image.

    A compressed tar file can only be read from its beginning, so its PNG files (some hundred
    megabytes) are kept in memory.

    Args:
        path: A .zip, .tgz, .tar.gz or .tar file.
        images: How many images there must be normals for.
        size: Height and width that they must have.

    Raises:
        ValueError: It is no such archive, is damaged, or lacks an image.
    """

    def __init__(self, path: Path, images: int, size: Size) -> None:
        self.path = path
        self.size = size
        self._normals: dict[int, bytes] = {}
        self._masks: dict[int, bytes] = {}
        for name, content in _members(path):
            self._sort_in(name, content)
        for what, found in (("normals", self._normals), ("masks", self._masks)):
            missing = [image for image in range(images) if image not in found]
            if missing and (found or what == "normals"):
                raise ValueError(
                    f"{path} has {what} of {images - len(missing)} of {images} images (the first without is image "
                    f"{missing[0] + 1}); expected normals/0000.png, ... and masks/, or train/ and test/00001.png, ..."
                )

    def __getitem__(self, image: int) -> np.ndarray:
        """The normals of an image: ``(H, W, 3)``, float32, unit vectors, in the archive's axes.

        Zeros stand where there is no truth. Images are counted from 0.
        """
        picture = self._decode(self._normals[image], f"the normals of image {image + 1}", ("RGB",))
        vectors = unit_or_zero(picture.astype(np.float32) / 127.5 - 1)
        if image in self._masks:
            vectors[self._decode(self._masks[image], f"the mask of image {image + 1}", ("L", "1")) == 0] = 0
        return vectors

    def _sort_in(self, name: str, content: bytes) -> None:
        if match := _FROM_ZERO.search(name):
            found = self._masks if match["folder"] == "masks" else self._normals
            found[int(match["number"])] = content
        elif match := _FROM_ONE.search(name):
            self._normals[int(match["number"]) - 1] = content

    def _decode(self, content: bytes, what: str, modes: tuple[str, ...]) -> np.ndarray:
        return decode(io.BytesIO(content), f"{what} in {self.path}", modes, self.size)


def _members(path: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of each PNG file in an archive."""
    try:
        if zipfile.is_zipfile(path):
            yield from _zip_members(path)
        else:
            yield from _tar_members(path)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, OSError, RuntimeError, zlib.error) as error:
        raise ValueError(f"{path} is no .zip or .tgz file, or is truncated ({error}); get it again") from error


def _zip_members(path: Path) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if member.filename.endswith(".png"):
                _check_length(path, member.filename, member.file_size)
                yield member.filename, archive.read(member)


def _tar_members(path: Path) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(path) as archive:
        for member in archive:
            if member.isfile() and member.name.endswith(".png"):
                _check_length(path, member.name, member.size)
                content = archive.extractfile(member)
                assert content is not None  # it is a file
                yield member.name, content.read()


def _check_length(path: Path, name: str, length: int) -> None:
    if length > _LARGEST:
        raise ValueError(f"{name} in {path} has {length} bytes, too many for an image of normals")
