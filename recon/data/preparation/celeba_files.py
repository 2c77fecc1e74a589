"""The official files of CelebA, read with checks: attributes, partition, images.

    list_attr_celeba.txt       line 1: number of images; line 2: names of the 40 attributes;
                               then ``000001.jpg -1 1 ...``
    list_eval_partition.txt    ``000001.jpg 0``: 0 for training, 1 for validation, 2 for test
    img_align_celeba/          the aligned images

The folders ``Anno``, ``Eval`` and ``Img`` of the official drive may be there or not, and so may a
folder ``celeba`` around all, as torchvision has it. Kaggle's copy has the same rows with commas
(``list_attr_celeba.csv``, ``list_eval_partition.csv``), without the number and with a header, and
the images one folder deeper.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recon.data.celeba.attributes import ATTRIBUTES
from recon.data.celeba.faces import SPLITS, Split
from recon.files.reading import open_regular

ATTRIBUTE_FILE = "list_attr_celeba"
PARTITION_FILE = "list_eval_partition"
IMAGE_FOLDER = "img_align_celeba"

_PLACES = ("", "Anno", "Eval", "celeba", "celeba/Anno", "celeba/Eval")
_IMAGE_PLACES = (f"{IMAGE_FOLDER}/{IMAGE_FOLDER}", IMAGE_FOLDER, f"Img/{IMAGE_FOLDER}")


@dataclass(frozen=True)
class Listing:
    """The images of a split, in the order of the attribute file.

    Args:
        images: Their files.
        labels: ``(N, 40)``, int8, 1 or 0.
    """

    images: list[Path]
    labels: np.ndarray

    def part(self, rows: slice) -> "Listing":
        """Some of the images."""
        return Listing(self.images[rows], self.labels[rows])


def label_files(source: Path) -> dict[str, Path]:
    """The files of attributes and partition, by their content.

    Raises:
        ValueError: One is missing.
    """
    return {name: _find(source, name) for name in (ATTRIBUTE_FILE, PARTITION_FILE)}


def read_listings(source: Path) -> dict[Split, Listing]:
    """The images of each split with their attributes.

    Raises:
        ValueError: A file or folder is missing, or a file has another form than documented.
    """
    files = label_files(source)
    names, labels = _attributes(files[ATTRIBUTE_FILE])
    partition = _partition(files[PARTITION_FILE])
    if missing := [name for name in names if name not in partition]:
        raise ValueError(
            f"{files[PARTITION_FILE]} lacks {missing[0]}, and {len(missing) - 1} other images of "
            f"{files[ATTRIBUTE_FILE].name}; get both files again"
        )
    if len(partition) > len(names):
        strange = next(name for name in partition if name not in set(names))
        raise ValueError(f"{files[ATTRIBUTE_FILE]} lacks {strange}, which has a partition; get both files again")
    folder = _image_folder(source)
    of_image = np.array([partition[name] for name in names])
    rows = {split: np.flatnonzero(of_image == number) for number, split in enumerate(SPLITS)}
    return {split: Listing([folder / names[row] for row in found], labels[found]) for split, found in rows.items()}


def _attributes(path: Path) -> tuple[list[str], np.ndarray]:
    """Names of the images, and their labels ``(N, 40)``."""
    rows = _rows(path)
    if path.suffix == ".txt":
        number, header, *rows = [*rows, [], []][: max(2, len(rows))]
        if number != [str(len(rows))]:
            raise ValueError(
                f"{path} says in its first line that it has {' '.join(number)} images, and has {len(rows)}; get it "
                "again"
            )
    else:
        (_, *header), *rows = rows or [[""]]
    _check_names(path, header)
    for row, cells in enumerate(rows, start=1):
        if len(cells) != len(ATTRIBUTES) + 1:
            raise ValueError(
                f"{path} has {len(cells) - 1} attributes of image {row} ({cells[0]}), not {len(ATTRIBUTES)}; get it "
                "again"
            )
        if strange := set(cells[1:]) - {"1", "-1"}:
            raise ValueError(f"{path} has {min(strange)!r} as an attribute of {cells[0]}; it should be 1 or -1")
    labels = np.array([[cell == "1" for cell in cells[1:]] for cells in rows], np.int8)
    return [cells[0] for cells in rows], labels.reshape(-1, len(ATTRIBUTES))


def _check_names(path: Path, names: list[str]) -> None:
    if len(names) != len(ATTRIBUTES):
        raise ValueError(f"{path} names {len(names)} attributes, not {len(ATTRIBUTES)}; get the official file")
    for number, (name, expected) in enumerate(zip(names, ATTRIBUTES, strict=True), start=1):
        if name != expected:
            raise ValueError(
                f"{path} calls attribute {number} {name!r}; it should be {expected!r}. Get the official file"
            )


def _partition(path: Path) -> dict[str, int]:
    """The number of the split of each image."""
    rows = _rows(path)[1 if path.suffix == ".csv" else 0 :]
    for row, cells in enumerate(rows, start=1):
        if len(cells) != 2 or cells[1] not in ("0", "1", "2"):
            raise ValueError(
                f"{path} has {' '.join(cells)!r} in row {row}; it should be an image and 0, 1 or 2, such as "
                "'000001.jpg 0'"
            )
    return {name: int(number) for name, number in rows}


def _rows(path: Path) -> list[list[str]]:
    """The cells of each row that is not empty."""
    with open_regular(path) as file:
        content = file.read()
    try:
        lines = content.decode().splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text ({error}); get it again") from error
    if path.suffix == ".csv":
        lines = [line.replace(",", " ") for line in lines]
    return [cells for line in lines if (cells := line.split())]


def _find(source: Path, name: str) -> Path:
    for place in _PLACES:
        for path in (source / place / f"{name}.txt", source / place / f"{name}.csv"):
            if path.is_file():
                return path
    raise ValueError(
        f"there is no {source / name}.txt, nor in the folders Anno, Eval and celeba there; it comes with CelebA's "
        "images"
    )


def _image_folder(source: Path) -> Path:
    for place in ("", "celeba"):
        for folder in (source / place / name for name in _IMAGE_PLACES):
            if folder.is_dir():
                return folder
    raise ValueError(f"there is no folder {source / IMAGE_FOLDER}; unpack img_align_celeba.zip in {source}")
