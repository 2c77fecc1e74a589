"""PASCAL-Context from PASCAL_MT, the archive of Maninis et al., unpacked.

Maninis, Radosavovic & Kokkinos, "Attentive Single-Tasking of Multiple Tasks", CVPR 2019; 4,998
training and 5,105 validation images, at most 500 pixels high and wide. They are put into the middle
of 512 x 512 pixels, grey around them, as in Brüggemann et al., "Automated Search for
Resource-Efficient Branched Multi-Task Networks" (BMTAS), BMVC 2020. In a smaller size, they shrink
by the same factor, and edges are found afterwards.

Human parts are 6 of the 24 annotated ones put together. Normals count where the thing is of a class
that NYU Depth v2 has too, since a network that was trained there gave them. Their axes are those of
the archive; red is the one that changes its sign in a mirror.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recon.data.preparation.manifest import Arrays, Recipe, carry_out
from recon.data.preparation.pascal_files import Photograph, find_root, photographs
from recon.data.preparation.resizing import Size, averaged, sampled
from recon.data.preparation.thinning import edges_of
from recon.errors import number_of
from recon.progress import counted

COUNTS = {"train": 4998, "val": 5105}
FRAME = 512
"""Height and width that every image fits into."""

GREY = 128


def prepare_pascal_context(source: Path, *, out: Path, size: int = FRAME, partial: bool = False) -> None:
    """Convert PASCAL_MT into OUT/{train,val}/{image,label,parts,normal,saliency,edges}/{i}.npy.

    Interrupted, the same command goes on. Labels are 21 classes, 7 parts (background first), and 1
    or 0 for saliency and edges (-1: none); normals are unit vectors (zeros: none).

    Args:
        source: The folder PASCAL_MT, as PASCAL_MT.tgz unpacks, or the folder around it.
        out: Folder of the prepared data set.
        size: Height and width of the prepared images; 256 halves them.
        partial: Be content with other numbers than the official 4,998 training and 5,105 validation
            images.
    """
    convert(source, out, size, FRAME, {} if partial else COUNTS)


def convert(source: Path, out: Path, size: int, frame: int, counts: Mapping[str, int]) -> None:
    """Convert files of any size and number, as :func:`prepare_pascal_context` does.

    Args:
        source: The folder PASCAL_MT, or the one around it.
        out: Folder of the prepared data set.
        size: Height and width of the prepared images.
        frame: Height and width that every image fits into; it becomes ``size``.
        counts: Number of images that a split must have, for splits with a fixed number.
    """
    if size < 1:
        raise ValueError(f"size is {size}; it must be at least 1")
    root = find_root(source)
    samples = {split: photographs(root, split) for split in ("train", "val")}
    for split, count in counts.items():
        if len(samples[split]) != count:
            raise ValueError(
                f"{root} has {number_of(len(samples[split]), f'{split} image')}, not {count}; complete it, or say "
                "--partial"
            )
    everything = [sample for found in samples.values() for sample in found]
    for sample in counted(everything, "checking files", "image"):
        sample.check(frame)
    recipe = Recipe(
        dataset="pascal_context",
        source=_source(everything),
        settings={"height": size, "width": size, "frame": frame},
        samples={split: [sample.name for sample in found] for split, found in samples.items()},
        folders=("image", "label", "parts", "normal", "saliency", "edges"),
    )

    def make(split: str, index: int) -> Arrays:
        return _arrays(samples[split][index], size, frame)

    carry_out(recipe, out, make)


def _arrays(sample: Photograph, size: int, frame: int) -> Arrays:
    image = sample.image()
    old: Size = image.shape[:2]
    new: Size = (max(1, round(old[0] * size / frame)), max(1, round(old[1] * size / frame)))
    classes = sample.classes(old)
    truth = {
        "label": sampled(sample.label(old), new),
        "parts": sampled(sample.parts(old), new),
        "saliency": sampled(sample.saliency(old), new),
        "edges": edges_of(sampled(classes, new)).astype(np.int8),
    }
    # They have eight bits in the archive, so float16 is exact enough.
    normal = sampled(sample.normal(classes), new).astype(np.float16)
    return {
        "image": _framed(averaged(image, new), size, GREY),
        "normal": _framed(normal, size, 0),
        **{name: _framed(array, size, -1) for name, array in truth.items()},
    }


def _framed(array: np.ndarray, size: int, fill: int) -> np.ndarray:
    """An array ``(H, W, ...)`` in the middle of ``(size, size, ...)``."""
    framed = np.full((size, size, *array.shape[2:]), fill, array.dtype)
    top, left = ((size - extent) // 2 for extent in array.shape[:2])
    framed[top : top + array.shape[0], left : left + array.shape[1]] = array
    return framed


def _source(samples: Sequence[Photograph]) -> dict[str, Any]:
    """Identity of the files: number, bytes, and a checksum of names and sizes."""
    listing = [(path.parent.name, path.name, path.stat().st_size) for sample in samples for path in sample.files]
    return {
        "images": len(samples),
        "bytes": sum(size for *_, size in listing),
        "sha256_of_names_and_sizes": hashlib.sha256(json.dumps(listing).encode()).hexdigest(),
    }
