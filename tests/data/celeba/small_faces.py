"""Small files in the documented form of CelebA."""

from pathlib import Path

import numpy as np
from PIL import Image

from recon.data.celeba.attributes import ATTRIBUTES
from recon.data.preparation.celeba import FRAME, convert

PARTITION = (0, 0, 0, 0, 0, 1, 1, 2, 2, 2)
"""The split of each image."""


def image_names(number: int = len(PARTITION)) -> list[str]:
    return [f"{index:06d}.jpg" for index in range(1, number + 1)]


def face_labels(number: int = len(PARTITION)) -> np.ndarray:
    """Random attributes, 1 or -1."""
    return np.random.default_rng(3).choice([-1, 1], (number, len(ATTRIBUTES)))


def attribute_text(labels: np.ndarray) -> str:
    """As the official file writes them: blanks before positive numbers, and a blank after each row of names."""
    rows = [
        f"{name} " + " ".join(f"{value:2d}" for value in row) for name, row in zip(image_names(), labels, strict=True)
    ]
    return "\n".join([str(len(rows)), " ".join(ATTRIBUTES) + " ", *rows]) + "\n"


def partition_text() -> str:
    return "".join(f"{name} {split}\n" for name, split in zip(image_names(), PARTITION, strict=True))


def write_faces(source: Path, size: tuple[int, int] = FRAME) -> Path:
    """Write the official files of ten noisy images, in the folders of the official drive."""
    for folder in ("Anno", "Eval", "Img/img_align_celeba"):
        (source / folder).mkdir(parents=True, exist_ok=True)
    (source / "Anno" / "list_attr_celeba.txt").write_text(attribute_text(face_labels()))
    (source / "Eval" / "list_eval_partition.txt").write_text(partition_text())
    generator = np.random.default_rng(4)
    for name in image_names():
        pixels = generator.integers(0, 256, (*size, 3), np.uint8)
        Image.fromarray(pixels).save(source / "Img" / "img_align_celeba" / name, "JPEG", quality=95)
    return source


def prepare_faces(root: Path, size: int = 64) -> Path:
    """A prepared CelebA of ten images."""
    source = write_faces(root / "official", size=(8, 6))
    convert(source, root / "faces", size, frame=(8, 6), counts={}, block=2)
    return root / "faces"
