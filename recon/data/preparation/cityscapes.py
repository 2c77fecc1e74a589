"""CityScapes from its official archives, unpacked: ``leftImg8bit``, ``gtFine`` and ``disparity``.

Cordts et al., "The Cityscapes Dataset for Semantic Urban Scene Understanding", CVPR 2016; 2,975
training and 500 validation images with fine labels, 2048 x 1024 pixels, here 256 x 128 as in Liu,
Johns & Davison, "End-to-End Multi-Task Learning with Attention" (MTAN), CVPR 2019.

    leftImg8bit/{train,val}/CITY/NAME_leftImg8bit.png    colours
    gtFine/{train,val}/CITY/NAME_gtFine_labelIds.png     labels, 0 to 33
    disparity/{train,val}/CITY/NAME_disparity.png        16 bits, p; 0: missing

A pixel p > 0 is a disparity of (p - 1) / 256 pixels. The task that the literature calls depth is
inverse depth, p / 65535: the largest value in MTAN's release, 0.4922, is 32257 / 65535. So absolute
errors should compare with published ones, and relative errors too, which the smallest p dominate. A
value v is a disparity of (65535 v - 1) / 256 pixels of the full resolution, also in the smaller
image: inverse depth does not depend on its size.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recon.data.preparation.manifest import Arrays, Recipe, carry_out
from recon.data.preparation.pictures import check_png, decode
from recon.data.preparation.resizing import Size, averaged, sampled
from recon.errors import number_of
from recon.progress import counted

COUNTS = {"train": 2975, "val": 500}
FRAME: Size = (1024, 2048)

# cityscapesScripts, helpers/labels.py, by labelId: (trainId, category). None: ignored in
# evaluation; category 0: void.
_LABELS: tuple[tuple[int | None, int], ...] = (
    *((None, 0),) * 7,  # unlabeled, ego vehicle, rectification border, out of roi, static, dynamic, ground
    *((0, 1), (1, 1), (None, 1), (None, 1)),  # flat: road, sidewalk, parking, rail track
    *(
        (2, 2),
        (3, 2),
        (4, 2),
        (None, 2),
        (None, 2),
        (None, 2),
    ),  # construction: building, wall, fence, rail, bridge, tunnel
    *((5, 3), (None, 3), (6, 3), (7, 3)),  # object: pole, polegroup, traffic light, traffic sign
    *((8, 4), (9, 4)),  # nature: vegetation, terrain
    (10, 5),  # sky
    *((11, 6), (12, 6)),  # human: person, rider
    *(
        (13, 7),
        (14, 7),
        (15, 7),
        (None, 7),
        (None, 7),
        (16, 7),
        (17, 7),
        (18, 7),
    ),  # vehicle: car, truck, bus, caravan, ...
)

TRAIN_IDS = np.array([-1 if train is None else train for train, _ in _LABELS], np.int8)
"""Of each labelId the class of 19, -1 for none."""

CATEGORIES = np.array([category - 1 for _, category in _LABELS], np.int8)
"""Class of 7 of each labelId, -1 for none.

The classes are flat, construction, object, nature, sky, human, vehicle.
"""


@dataclass(frozen=True)
class Sample:
    """The three files of an image.

    Args:
        source: Folder of the data set.
        split: ``"train"`` or ``"val"``.
        name: City and name of the image, e.g. ``"aachen/aachen_000000_000019"``.
    """

    source: Path
    split: str
    name: str

    @property
    def files(self) -> dict[str, Path]:
        """Each file by its content: image, labels, disparity."""
        return {
            "image": self.source / "leftImg8bit" / self.split / f"{self.name}_leftImg8bit.png",
            "label": self.source / "gtFine" / self.split / f"{self.name}_gtFine_labelIds.png",
            "disparity": self.source / "disparity" / self.split / f"{self.name}_disparity.png",
        }


def prepare_cityscapes(source: Path, *, out: Path, height: int = 128, width: int = 256, partial: bool = False) -> None:
    """Convert CityScapes into OUT/{train,val}/{image,label_7,label_19,depth}/{i}.npy.

    Interrupted, the same command goes on. Labels are those of 7 categories and of 19 classes (-1:
    none), depth is inverse depth: the values of the disparity files divided by 65535, as in MTAN's
    release (0: none). Images are averaged over the area of a pixel; labels and depth are those at
    its centre.

    Args:
        source: Folder with leftImg8bit, gtFine and disparity, as the official archives unpack.
        out: Folder of the prepared data set.
        height: Height of the prepared images.
        width: Width of the prepared images.
        partial: Be content with fewer than the official 2,975 training and 500 validation images.
    """
    convert(source, out, (height, width), FRAME, {} if partial else COUNTS)


def convert(source: Path, out: Path, size: Size, frame: Size, counts: dict[str, int]) -> None:
    """Convert files of any size and number, as :func:`prepare_cityscapes` does.

    Args:
        source: Folder of the official files.
        out: Folder of the prepared data set.
        size: Height and width of the prepared images.
        frame: Height and width of the official files.
        counts: Number of images that a split must have, for splits with a fixed number.
    """
    samples = {split: _samples(source, split) for split in ("train", "val")}
    for split, count in counts.items():
        if len(samples[split]) != count:
            raise ValueError(
                f"{source / 'leftImg8bit' / split} has {number_of(len(samples[split]), 'image')}, not {count}; "
                "complete it, or say --partial"
            )
    _check_files([sample for found in samples.values() for sample in found], frame)
    recipe = Recipe(
        dataset="cityscapes",
        source=_source(samples),
        settings={"height": size[0], "width": size[1], "depth": "disparity file / 65535"},
        samples={split: [sample.name for sample in found] for split, found in samples.items()},
        folders=("image", "label_7", "label_19", "depth"),
    )

    def make(split: str, index: int) -> Arrays:
        return _arrays(samples[split][index], size, frame)

    carry_out(recipe, out, make)


def _samples(source: Path, split: str) -> list[Sample]:
    """The images of a split, in the order of their names."""
    folder = source / "leftImg8bit" / split
    suffix = "_leftImg8bit.png"
    names = sorted(f"{path.parent.name}/{path.name.removesuffix(suffix)}" for path in folder.glob(f"*/*{suffix}"))
    if not names:
        raise ValueError(f"{folder} has no CITY/NAME{suffix}; unpack leftImg8bit_trainvaltest.zip in {source}")
    return [Sample(source, split, name) for name in names]


def _check_files(samples: Sequence[Sample], frame: Size) -> None:
    """Check that all files are there, whole and of the right size, before any work."""
    for sample in counted(samples, "checking files", "image"):
        for path in sample.files.values():
            check_png(path, frame)


def _arrays(sample: Sample, size: Size, frame: Size) -> Arrays:
    files = sample.files
    image = decode(files["image"], files["image"], ("RGB",), frame)
    label = decode(files["label"], files["label"], ("L",), frame)
    disparity = decode(files["disparity"], files["disparity"], ("I;16", "I"), frame)
    if label.max() >= len(_LABELS):
        row, column = np.argwhere(label >= len(_LABELS))[0]
        raise ValueError(
            f"{files['label']}: label {label[row, column]} at row {row}, column {column}; expected 0 to "
            f"{len(_LABELS) - 1}"
        )
    label = sampled(label, size)
    return {
        "image": averaged(image, size),
        "label_7": CATEGORIES[label],
        "label_19": TRAIN_IDS[label],
        "depth": (sampled(disparity, size) / 65535).astype(np.float32),
    }


def _source(samples: dict[str, list[Sample]]) -> dict[str, object]:
    """Identity of the files: number, bytes, and a checksum of names and sizes.

    They are too many to read twice.
    """
    found = [sample for split in samples.values() for sample in split]
    listing = [
        (sample.split, sample.name, what, path.stat().st_size)
        for sample in found
        for what, path in sample.files.items()
    ]
    return {
        "images": len(found),
        "bytes": sum(size for *_, size in listing),
        "sha256_of_names_and_sizes": hashlib.sha256(json.dumps(listing).encode()).hexdigest(),
    }
