"""CelebA from its official files: faces at 64 x 64 pixels in blocks of memory-mapped arrays.

Liu, Luo, Wang & Tang, "Deep Learning Face Attributes in the Wild", ICCV 2015. Multi-task work
resizes the aligned images of 178 x 218 pixels to 64 x 64, so their sides shrink differently. Here a
pixel is the mean over its area.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from recon.data.celeba.attributes import ATTRIBUTES
from recon.data.celeba.faces import Split
from recon.data.preparation.celeba_files import Listing, label_files, read_listings
from recon.data.preparation.manifest import Arrays, Recipe, carry_out, source_record
from recon.data.preparation.pictures import check_jpeg, decode
from recon.data.preparation.resizing import Size, averaged
from recon.errors import number_of
from recon.progress import counted

COUNTS: dict[Split, int] = {"train": 162_770, "val": 19_867, "test": 19_962}
FRAME: Size = (218, 178)
BLOCK = 4096
"""Images in a file."""


def prepare_celeba(source: Path, *, out: Path, size: int = 64, partial: bool = False) -> None:
    """Convert CelebA into OUT/{train,val,test}/{image,label}/{i}.npy, 4,096 images in a file.

    Interrupted, the same command goes on. Images are averaged over the area of a pixel; labels are
    1 and 0, in the order of list_attr_celeba.txt.

    Args:
        source: Folder with list_attr_celeba.txt, list_eval_partition.txt (in Anno and Eval, or
            without these folders) and img_align_celeba, or Kaggle's copy (.csv).
        out: Folder of the prepared data set.
        size: Height and width of the prepared images.
        partial: Be content with other numbers than the official 162,770 images for training,
            19,867 for validation and 19,962 for test.
    """
    convert(source, out, size, FRAME, {} if partial else COUNTS)


def convert(source: Path, out: Path, size: int, frame: Size, counts: dict[Split, int], block: int = BLOCK) -> None:
    """Convert files of any size and number, as :func:`prepare_celeba` does.

    Args:
        source: Folder of the official files.
        out: Folder of the prepared data set.
        size: Height and width of the prepared images.
        frame: Height and width of the official images.
        counts: Number of images that a split must have, for splits with a fixed number.
        block: Number of images in a file.
    """
    if size < 1:
        raise ValueError(f"size is {size}; it must be at least 1")
    listings = read_listings(source)
    _check_counts(source, listings, counts)
    blocks = {split: _blocks(listing, block) for split, listing in listings.items()}
    recipe = Recipe(
        dataset="celeba",
        source=_source(source, listings),
        settings={"height": size, "width": size, "block": block, "attributes": ATTRIBUTES},
        samples={split: [_named(part) for part in parts] for split, parts in blocks.items()},
        folders=("image", "label"),
        unit="block",
    )

    def make(split: Any, index: int) -> Arrays:
        part = blocks[split][index]
        images = [averaged(decode(path, path, ("RGB",), frame, "JPEG"), (size, size)) for path in part.images]
        return {"image": np.stack(images), "label": part.labels}

    carry_out(recipe, out, make)


def _check_counts(source: Path, listings: dict[Split, Listing], counts: dict[Split, int]) -> None:
    for split, listing in listings.items():
        number = len(listing.images)
        if not number:
            raise ValueError(f"the partition file in {source} leaves the {split} split empty; give the official file")
        if number != counts.get(split, number):
            raise ValueError(
                f"the files in {source} list {number} {split} images, not {counts[split]}; complete them, or say "
                "--partial"
            )


def _blocks(listing: Listing, block: int) -> list[Listing]:
    return [listing.part(slice(first, first + block)) for first in range(0, len(listing.images), block)]


def _named(part: Listing) -> str:
    return f"{number_of(len(part.images), 'image')}, {part.images[0].name} to {part.images[-1].name}"


def _source(source: Path, listings: dict[Split, Listing]) -> dict[str, object]:
    """Identity of the files, which are all there and whole by their first and last bytes.

    Images are too many to read twice, so their names and sizes stand for them.
    """
    images = [path for listing in listings.values() for path in listing.images]
    listing = []
    for path in counted(images, "checking files", "image"):
        check_jpeg(path)
        listing.append((path.name, path.stat().st_size))
    return {
        **{name: source_record(path) for name, path in label_files(source).items()},
        "images": len(images),
        "bytes": sum(size for _, size in listing),
        "sha256_of_names_and_sizes": hashlib.sha256(json.dumps(listing).encode()).hexdigest(),
    }
