"""Small files in the documented form of PASCAL_MT."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.io import savemat

from recon.data.preparation.pascal_context import convert

NAMES = {"train": ["2008_000003", "2008_000002", "2008_000008", "2008_000015"], "val": ["2008_000026"]}
FRAME = 32


def thing(class_ind: int, size: tuple[int, int], parts: Sequence[tuple[str, np.ndarray]] = ()) -> tuple[Any, ...]:
    """An entry of ``anno.objects``."""
    kinds = [("part_name", object), ("mask", object)]
    own = np.array([[(name, mask.astype(np.uint8)) for name, mask in parts]], kinds) if parts else np.zeros((0, 0))
    return ("thing", class_ind, np.ones(size, np.uint8), own)


def write_anno(path: Path, things: Sequence[tuple[Any, ...]]) -> None:
    """Write a file of parts, as PASCAL-Part has it."""
    kinds = [(name, object) for name in ("class", "class_ind", "mask", "parts")]
    anno = {"imname": path.stem, "objects": np.array([list(things)], kinds)}
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {"anno": anno}, do_compression=True)


def write_map(path: Path, labels: np.ndarray) -> None:
    """Write a map of 459 classes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {"LabelMap": labels.astype(np.uint16)})


def write_picture(path: Path, pixels: np.ndarray, palette: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(pixels)
    if palette:
        picture.putpalette([value % 256 for value in range(768)])
    picture.save(path)


def write_photograph(root: Path, name: str, size: tuple[int, int], seed: int) -> None:
    """Write all files of an image; there is a person on it."""
    generator = np.random.default_rng(seed)
    write_picture(root / "JPEGImages" / f"{name}.jpg", generator.integers(0, 256, (*size, 3), np.uint8))
    label = generator.integers(0, 21, size, np.uint8)
    label[0] = 255
    write_picture(root / "semseg" / ("VOC12" if seed % 2 else "pascal-context") / f"{name}.png", label, seed % 2 == 1)
    write_picture(root / "normals_distill" / f"{name}.png", generator.integers(0, 256, (*size, 3), np.uint8))
    write_picture(root / "sal_distill" / f"{name}.png", generator.integers(0, 256, size, np.uint8))
    write_map(root / "pascal-context" / "trainval" / f"{name}.mat", generator.choice([0, 1, 284, 440], size))
    head, foot = generator.random((2, *size)) < 0.3
    write_anno(
        root / "human_parts" / f"{name}.mat", [thing(15, size, [("head", head), ("lfoot", foot)]), thing(2, size)]
    )


def write_pascal(root: Path) -> Path:
    """Write PASCAL_MT of five images."""
    lists = root / "ImageSets" / "Context"
    lists.mkdir(parents=True)
    for split, names in NAMES.items():
        (lists / f"{split}.txt").write_text("\n".join(names) + "\n")
    for seed, name in enumerate(NAMES["train"] + NAMES["val"]):
        write_photograph(root, name, size=(20, 30) if seed % 2 else (31, 24), seed=seed)
    return root


def prepare_pascal(root: Path, size: int = FRAME) -> Path:
    """A prepared PASCAL-Context of five images."""
    convert(write_pascal(root / "PASCAL_MT"), root / "pascal", size, FRAME, {})
    return root / "pascal"
