"""Smaller images: colours are averaged, truth is sampled.

Labels, depth and normals of a pixel come from one source pixel, the one at its centre. So no depth
between two surfaces is invented, missing values do not mix with known ones, and the three agree
with each other.
"""

from functools import cache

import numpy as np

Size = tuple[int, int]
"""Height and width."""


def sampled(values: np.ndarray, size: Size) -> np.ndarray:
    """The source pixel at the centre of each new pixel.

    Args:
        values: ``(H, W)`` or ``(H, W, C)``.
        size: New height and width.
    """
    rows, columns = (_centres(old, new) for old, new in zip(values.shape, size, strict=False))
    return values[rows[:, None], columns]


def averaged(image: np.ndarray, size: Size) -> np.ndarray:
    """The mean colour over the area of each new pixel, rounded.

    Args:
        image: ``(H, W, 3)``, uint8.
        size: New height and width.
    """
    rows, columns = (_coverage(old, new) for old, new in zip(image.shape, size, strict=False))
    # Sums of whole numbers, so that every machine rounds alike.
    sums = np.stack([rows @ image[..., channel].astype(float) @ columns.T for channel in range(3)], axis=-1)
    return np.rint(sums / (image.shape[0] * image.shape[1])).astype(np.uint8)


def _centres(old: int, new: int) -> np.ndarray:
    return (2 * np.arange(new) + 1) * old // (2 * new)


@cache
def _coverage(old: int, new: int) -> np.ndarray:
    """How much of each of ``old`` pixels lies in each of ``new`` ones, along one axis.

    Whole numbers (new, old): a new pixel has ``old`` units, and an old one has ``new``.
    """
    inner, outer = np.arange(old) * new, np.arange(new)[:, None] * old
    overlap = np.minimum(outer + old, inner + new) - np.maximum(outer, inner)
    return np.clip(overlap, 0, None).astype(float)
