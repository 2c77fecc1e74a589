"""The official file of NYU Depth v2, read with checks, and the facts that it does not hold.

The file is MATLAB's v7.3, which is HDF5; arrays in it have their axes in reverse order:

    images (N, 3, 640, 480) uint8       depths (N, 640, 480) metres, holes filled in
    labels (N, 640, 480) uint16: 0 without label, else 1 to 894
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from recon.data.preparation.normals import Camera
from recon.data.preparation.resizing import Size
from recon.plugins import needs

_FARTHEST = 20.0
"""Depth in metres out of a Kinect's reach; larger values are in another unit."""


@dataclass(frozen=True)
class Distribution:
    """The facts of the data set that its file does not hold.

    Args:
        splits: The images of each split, counted from 0.
        classes: Class of each raw label, (1 + raw labels,), int8; -1 for label 0.
        camera: The colour camera, into whose frame depth is projected.
        valid: Rows and columns with depth.
    """

    splits: dict[str, list[int]]
    classes: np.ndarray
    camera: Camera
    valid: tuple[slice, slice]

    @property
    def images(self) -> int:
        """Number of images."""
        return sum(len(indices) for indices in self.splits.values())

    @property
    def frame(self) -> Size:
        """Height and width of an image before it is cut."""
        return self.camera.height, self.camera.width


def official() -> Distribution:
    """The published distribution.

    ``nyuv2-classes-and-splits.json`` names the sources of its tables.
    """
    tables = json.loads((files(__package__) / "nyuv2-classes-and-splits.json").read_text())
    of_40 = np.array(tables["raw_to_40"])
    of_13 = np.array(tables["map_40_to_13"])[of_40 - 1]
    return Distribution(
        splits={split: [number - 1 for number in tables[key]] for split, key in (("train", "train"), ("val", "test"))},
        classes=np.concatenate([[0], of_13]).astype(np.int8) - 1,
        # camera_params.m of the toolbox; its pixels are counted from 1
        camera=Camera(480, 640, 518.85790117450188, 519.46961112127485, 325.58244941119034 - 1, 253.73616633400465 - 1),
        valid=(slice(44, 471), slice(40, 601)),
    )


class Scans:
    """The arrays of the file, one image at a time, upright and checked.

    Args:
        path: The file.
        file: The file, opened by h5py.
        distribution: The facts that it must agree with.
    """

    def __init__(self, path: Path, file: Any, distribution: Distribution) -> None:
        self.path = path
        self.distribution = distribution
        self._file = file

    def check(self) -> None:
        """Refuse a file without the arrays, or with arrays of another type or shape."""
        height, width = self.distribution.frame
        for name, kind, planes in (
            ("images", np.uint8, (3,)),
            ("depths", np.floating, ()),
            ("labels", np.unsignedinteger, ()),
        ):
            array, expected = self._array(name), (self.distribution.images, *planes, width, height)
            if array.shape != expected:
                swapped = array.shape == (*expected[:-2], height, width)
                raise ValueError(
                    f"{name!r} in {self.path} has shape {array.shape}, not {expected}, in the order of HDF5"
                    + ("; width and height are swapped" if swapped else "")
                )
            if not np.issubdtype(array.dtype, kind):
                raise ValueError(f"{name!r} in {self.path} is of type {array.dtype}; it is not the official file")

    def image(self, index: int) -> np.ndarray:
        """Colours ``(H, W, 3)``, uint8."""
        return self._read("images", index).transpose(2, 1, 0)

    def depth(self, index: int) -> np.ndarray:
        """Metres ``(H, W)``, float32; 0 where there is none."""
        depth = self._read("depths", index).T.astype(np.float32)
        wrong = ~((depth >= 0) & (depth <= _FARTHEST))
        if wrong.any():
            raise self._error("depth", index, depth, wrong, f"expected 0 to {_FARTHEST:g} metres")
        return depth

    def label(self, index: int) -> np.ndarray:
        """Class ``(H, W)``, int8; -1 where there is none."""
        label = self._read("labels", index).T
        last = len(self.distribution.classes) - 1
        wrong = label > last
        if wrong.any():
            raise self._error("label", index, label, wrong, f"expected 0 to {last}")
        return self.distribution.classes[label]

    def _array(self, name: str) -> Any:
        """An array in h5py's form."""
        try:
            present = name in self._file
            found = self._file[name] if present else None
        except (KeyError, RuntimeError) as error:
            raise ValueError(f"{self.path} is truncated or damaged at {name!r} ({error}); get it again") from error
        if not hasattr(found, "shape"):  # nor is a group an array
            raise ValueError(f"{self.path} has no {name!r}; it is not nyu_depth_v2_labeled.mat")
        return found

    def _read(self, name: str, index: int) -> np.ndarray:
        try:
            return self._file[name][index]
        except (OSError, RuntimeError) as error:
            raise ValueError(
                f"{self.path} is truncated or damaged at {name!r} of image {index + 1} ({error}); get it again"
            ) from error

    def _error(self, what: str, index: int, array: np.ndarray, wrong: np.ndarray, expected: str) -> ValueError:
        row, column = np.argwhere(wrong)[0]
        return ValueError(
            f"{self.path}: {what} {array[row, column]} at row {row}, column {column} of image {index + 1}; {expected}"
        )


@contextmanager
def opened(path: Path, distribution: Distribution) -> Iterator[Scans]:
    """Open the file of a distribution.

    Raises:
        ValueError: There is no such file, or it is truncated or of another format.
    """
    with needs("h5py", extra="data"):  # MATLAB's files are HDF5
        import h5py  # type: ignore[import-untyped]
    if not path.is_file():
        raise ValueError(f"{path} is no file; give the official nyu_depth_v2_labeled.mat")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise ValueError(f"{path} is truncated, or no MATLAB v7.3 file ({error}); get it again") from error
    with file:
        yield Scans(path, file, distribution)
