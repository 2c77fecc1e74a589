"""Columns of text as numbers: places of categories, and standardised values."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

UNKNOWN = 0
"""The place of a category that the training rows do not have."""


class Places:
    """The places of a column's categories: 1, 2, ... in alphabetic order, and 0 for any other.

    >>> places = Places(["red", "blue", "red"])
    >>> places.of(["blue", "green", "red"]).tolist(), len(places)
    ([1, 0, 2], 3)

    Args:
        training: The cells of the training rows.
    """

    def __init__(self, training: Sequence[str]) -> None:
        self.place = {category: number for number, category in enumerate(sorted(set(training)), start=1)}

    def __len__(self) -> int:
        """The number of places, that of unknown categories included."""
        return len(self.place) + 1

    def of(self, cells: Sequence[str]) -> np.ndarray:
        """The places of cells, int64."""
        return np.fromiter((self.place.get(cell, UNKNOWN) for cell in cells), np.int64, len(cells))

    def unknown(self, cells: Sequence[str]) -> Counter[str]:
        """The cells without a place of their own, and how often each occurs."""
        return Counter(cell for cell in cells if cell not in self.place)


def to_numbers(cells: Sequence[str], column: str, path: object) -> np.ndarray:
    """The cells of a column as float64.

    Raises:
        ValueError: A cell is no finite number.
    """
    try:
        values = np.array(cells, dtype=np.float64)
    except ValueError:
        values = np.array([_number(cell) for cell in cells])
    if len(wrong := np.flatnonzero(~np.isfinite(values))):
        raise ValueError(
            f"{path} has {cells[wrong[0]]!r} as {column!r} in row {wrong[0] + 1}, which is no number; give the "
            "unchanged file"
        )
    return values


def standardised(training: np.ndarray, *others: np.ndarray) -> list[np.ndarray]:
    """Columns with mean 0 and standard deviation 1 over the training rows; float32.

    >>> standardised(np.array([[1.0], [3.0]]), np.array([[5.0]]))[1].tolist()
    [[3.0]]

    Args:
        training: ``(N, C)``; a constant column becomes 0.
        *others: Other rows, ``(n, C)``; they are shifted and scaled as the training rows are.
    """
    mean, deviation = training.mean(0), training.std(0)
    scale = np.where(deviation > 0, deviation, 1.0)
    return [((values - mean) / scale).astype(np.float32) for values in (training, *others)]


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return np.nan
