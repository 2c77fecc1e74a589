"""The field's layout of scenes on disk: a folder per quantity, a file per scene.

``ROOT/{train,val}/{image,label,depth,normal}/{i}.npy``, i = 0, 1, ...;
:mod:`recon.data.dense.quantities` says what the files hold. Files are mapped into memory, so the
cost of a view is the cost of its window.
"""

import re
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from tokenize import TokenError
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from recon.data.batches import Batch, EpochBatch
from recon.data.dense.augmentation import View, whole
from recon.data.dense.quantities import Depth, Image, Labels, Normals, Quantity
from recon.files.reading import open_regular

Split = Literal["train", "val"]
SPLITS: tuple[Split, ...] = ("train", "val")
MANIFEST = "manifest.json"
"""A file in the root of a prepared data set: source, settings, and a checksum of each file."""
UNFINISHED = "preparing.json"
"""A file in the root of a layout while ``recon data prepare`` makes it."""


class DenseFolder(Dataset[Batch]):
    """One split of a layout, indexed by ``(epoch, indices)``.

    All headers are checked at once, values when they are read.

    Args:
        directory: The split's folder.
        size: Height and width of the scenes, in pixels.
        targets: Task name -> quantity; folders of other quantities are not read.

    Raises:
        ValueError: A folder or file is missing, cannot be read, or has another shape; the error
            names it.
    """

    def __init__(self, directory: Path, size: tuple[int, int], targets: Mapping[str, Quantity]) -> None:
        self.size = size
        self.views: Callable[[int, int], View] | None = None
        self.image = _Folder.find(directory, Image())
        self.targets = {task: _Folder.find(directory, quantity) for task, quantity in targets.items()}
        folders = [self.image, *self.targets.values()]
        self.length = _length(folders)
        for folder in folders:
            for index in range(self.length):
                folder.open(index, size)

    def __len__(self) -> int:
        return self.length

    def files(self) -> list[Path]:
        """Every file that is read."""
        return [folder.file(index) for folder in (self.image, *self.targets.values()) for index in range(self.length)]

    def through(self, views: Callable[[int, int], View]) -> "DenseFolder":
        """The same scenes, seen through views: ``(epoch, index)`` -> view."""
        seen = copy(self)
        seen.views = views
        return seen

    def __getitem__(self, batch: EpochBatch) -> Batch:
        """Read a batch.

        Args:
            batch: The epoch, and the indices of B scenes; a process without a share has none.

        Returns:
            Images ``(B, 3, H, W)``, float32 in [0, 1], and targets ``(B, ...)`` by task.

        Raises:
            ValueError: A file holds a value that its quantity cannot have.
        """
        epoch, indices = batch
        views = [(index, self._view(epoch, index)) for index in indices or [0]]  # one gives the shape

        def stacked(folder: _Folder) -> Tensor:
            return torch.stack([folder.read(index, view) for index, view in views])[: len(indices)]

        return stacked(self.image), {task: stacked(folder) for task, folder in self.targets.items()}

    def _view(self, epoch: int, index: int) -> View:
        return whole(self.size) if self.views is None else self.views(epoch, index)


@dataclass(frozen=True)
class Contents:
    """The contents of one split of a layout.

    Args:
        scenes: Number of scenes.
        truth: Task -> fraction of all pixels that have truth.
    """

    scenes: int
    truth: dict[str, float]


def verify_layout(
    root: Path,
    classes: int,
    size: tuple[int, int] | None = None,
    normals: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> dict[Split, Contents]:
    """Read all of a layout with classes, depth and perhaps normals, as :func:`verify_scenes` does.

    Args:
        root: The layout's folder.
        classes: Number of classes; see :func:`label_folders`.
        size: Height and width of the scenes, in pixels; by default those of the first image.
        normals: Whether there are normals to check.
        progress: Called after each scene with the number of scenes read, and of all.
    """
    targets: dict[str, Quantity] = {"segmentation": Labels(classes, label_folders(classes)), "depth": Depth()}
    if normals:
        targets["normals"] = Normals()
    return verify_scenes(root, targets, size, progress)


def verify_scenes(
    root: Path,
    targets: Mapping[str, Quantity],
    size: tuple[int, int] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[Split, Contents]:
    """Read all of a layout, and check files, shapes, ranges and units.

    Args:
        root: The layout's folder.
        targets: Task name -> quantity to check.
        size: Height and width of the scenes, in pixels; by default those of the first image.
        progress: Called after each scene with the number of scenes read, and of all.

    Returns:
        The contents of each split.

    Raises:
        ValueError: The first fault, with the file's name.
    """
    if size is None:
        size = _Folder.find(root / SPLITS[0], Image()).size(0)
    splits = {split: DenseFolder(root / split, size, targets) for split in SPLITS}
    total = sum(len(scenes) for scenes in splits.values())
    done = count(1)
    contents: dict[Split, Contents] = {}
    for split, scenes in splits.items():
        known = dict.fromkeys(targets, 0.0)
        for index in range(len(scenes)):
            scenes.image.verify(index, size)
            for task, folder in scenes.targets.items():
                known[task] += folder.verify(index, size)
            if progress is not None:
                progress(next(done), total)
        contents[split] = Contents(len(scenes), {task: fraction / len(scenes) for task, fraction in known.items()})
    return contents


def label_folders(classes: int) -> tuple[str, ...]:
    """Names of the folder for labels of so many classes: ``label_7`` or ``label``, for instance.

    ``label`` alone never means the 19 classes of CityScapes, as there it holds the 7.
    """
    return ("label_19",) if classes == 19 else (f"label_{classes}", "label")


@dataclass(frozen=True)
class _Folder:
    """The files of one quantity in one split."""

    path: Path
    quantity: Quantity

    @classmethod
    def find(cls, directory: Path, quantity: Quantity) -> "_Folder":
        if not directory.is_dir():
            raise ValueError(f"there is no folder {directory}; scenes are in {' and '.join(SPLITS)} of their root")
        for name in quantity.folders:
            if (directory / name).is_dir():
                return cls(directory / name, quantity)
        raise ValueError(f"{directory} has no folder {' or '.join(map(repr, quantity.folders))}")

    def indices(self) -> set[int]:
        """The numbers of its files."""
        names = {path.stem for path in self.path.glob("[!.]*.npy")}
        if strange := sorted(name for name in names if not re.fullmatch("0|[1-9][0-9]*", name)):
            raise ValueError(f"{self.path / strange[0]}.npy is not named by a number; files are 0.npy, 1.npy, ...")
        return set(map(int, names))

    def file(self, index: int) -> Path:
        return self.path / f"{index}.npy"

    def map(self, index: int) -> np.ndarray:
        """A file's array, mapped into memory."""
        path = self.file(index)
        try:
            open_regular(path).close()
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, EOFError, ValueError, TokenError) as error:  # NumPy parses the header as Python
            raise ValueError(f"{path} is truncated or no .npy file of numbers ({error}); make it again") from error
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
            raise ValueError(f"{path} is no .npy file of numbers; make it again")
        return array

    def open(self, index: int, size: tuple[int, int]) -> np.ndarray:
        """A file's array, mapped into memory, if it has the shape that it should have."""
        array = self.map(index)
        shapes = self.quantity.shapes(size)
        if array.shape not in shapes:
            swapped = array.shape in self.quantity.shapes(size[::-1])
            raise ValueError(
                f"{self.file(index)} has shape {array.shape}; expected {' or '.join(map(str, shapes))}"
                f"{': height and width are swapped' if swapped else ''}"
            )
        return array

    def size(self, index: int) -> tuple[int, int]:
        """Height and width of a file's array."""
        shape = self.map(index).shape
        if len(shape) < 2:
            raise ValueError(f"{self.file(index)} has shape {shape}; expected (height, width, channels)")
        return shape[:2]

    def read(self, index: int, view: View) -> Tensor:
        """What a view shows of a file."""
        stored = self.open(index, view.size)[view.rows, view.columns]
        try:
            return self.quantity.seen(self.quantity.tensor(stored), view)
        except ValueError as error:
            raise ValueError(f"{self.file(index)} {error}") from error

    def verify(self, index: int, size: tuple[int, int]) -> float:
        """Check a whole file; gives the fraction of its pixels that have truth."""
        values = self.read(index, whole(size))
        if reason := self.quantity.implausible(self.open(index, size)):
            raise ValueError(f"{self.file(index)} {reason}")
        known = values.isfinite() if values.is_floating_point() else values >= 0
        return float(known.float().mean())


def _length(folders: list[_Folder]) -> int:
    """How many scenes there are, if all folders have them all."""
    indices = {folder: folder.indices() for folder in folders}
    last = max((max(present, default=-1) for present in indices.values()), default=-1)
    for folder, present in indices.items():
        missing = next(index for index in count() if index not in present)
        if missing <= last or last < 0:
            raise ValueError(
                f"{folder.file(missing)} is missing; every folder of {folder.path.parent} has the same files, "
                "0.npy, 1.npy, ... without gaps"
            )
    return last + 1
