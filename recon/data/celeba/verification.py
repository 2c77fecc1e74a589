"""Checks of prepared faces: read whole, and told in numbers."""

from collections.abc import Iterator
from pathlib import Path

from recon.data.celeba.attributes import TASKS, columns_of
from recon.data.celeba.faces import SPLITS, open_faces
from recon.errors import number_of


def verify_faces(root: Path, size: int) -> Iterator[str]:
    """Check shapes and labels of a prepared CelebA, and describe each split.

    Args:
        root: The folder of the prepared data set.
        size: Height and width that its images should have.

    Yields:
        A line for each split.

    Raises:
        ValueError: A file is missing, cannot be read, or holds something else.
    """
    for split in SPLITS:
        faces = open_faces(root / split, size, columns_of(TASKS))
        share = float(faces.labels.double().mean())
        images = number_of(len(faces), "image")
        yield f"{split}: {images}, {size} x {size}; {len(TASKS)} attributes, positive {share:.1%}"
