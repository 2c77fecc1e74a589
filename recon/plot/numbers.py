"""Numbers beside marks, which keep clear of each other where marks stand close."""

from collections.abc import Iterator, Sequence
from math import cos, pi, sin

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

from recon.plot.axes import GREY

_SIZE = 7
"""Height of the numbers in points; a digit is 0.64 of it wide."""
_DISTANCES = (10, 14, 19, 26, 34, 43, 53, 64)
"""Distances from the mark in points that are tried, the nearest first."""
_DIRECTIONS = 16
_MARK = 3.5
"""Half of a mark in points."""

Mark = tuple[float, float, float]
"""Place, value, and the half of its interval, in the units of the axes."""


def number_marks(axes: Axes, marks: Sequence[Mark]) -> None:
    """Number marks from 1 on; numbers find their places each time the figure is drawn.

    Args:
        axes: The axes with the marks.
        marks: The marks in the order of their numbers.
    """
    labels = []
    for number, (x, y, _) in enumerate(marks, 1):
        line = {"arrowstyle": "-", "color": GREY, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 2}
        label = axes.annotate(
            str(number), (x, y), (0, 0), textcoords="offset points", fontsize=_SIZE, ha="center", va="center",
            arrowprops=line,
        )  # fmt: skip
        label.set_in_layout(False)
        labels.append(label)
    axes.add_artist(_Places(labels, marks))


class _Places(Artist):
    """Places labels before they are drawn, when the size of the axes is known.

    Args:
        labels: The numbers.
        marks: Their marks.
    """

    def __init__(self, labels: Sequence[Annotation], marks: Sequence[Mark]) -> None:
        super().__init__()
        self._labels, self._marks = labels, marks
        self.set_zorder(0)  # first of all
        self.set_in_layout(False)

    def draw(self, renderer: RendererBase) -> None:
        """Place the labels one by one where neither marks, intervals nor other labels stand."""
        assert self.axes is not None
        point = self.axes.figure.dpi / 72
        inside = self.axes.bbox
        taken = [box for mark in self._marks for box in self._boxes(mark, point)]
        for label, (x, y, _) in zip(self._labels, self._marks, strict=True):
            centre = self.axes.transData.transform((x, y))
            tried = [(at, _box(centre, at, label.get_text(), point)) for at in _offsets()]
            kept = [(at, box) for at, box in tried if inside.containsx(box.x0) and inside.containsx(box.x1)]
            kept = [(at, box) for at, box in kept if inside.containsy(box.y0) and inside.containsy(box.y1)] or tried
            at, box = min(kept, key=lambda one: one[1].count_overlaps(taken))
            taken.append(box)
            label.set_position(at)
            assert label.arrow_patch is not None
            label.arrow_patch.set_visible(at not in set(_offsets(_DISTANCES[:1])))

    def _boxes(self, mark: Mark, point: float) -> Iterator[Bbox]:
        """The mark and its interval, in pixels."""
        assert self.axes is not None
        x, y, reach = mark
        (left, low), (_, high), (_, centre) = self.axes.transData.transform([(x, y - reach), (x, y + reach), (x, y)])
        yield Bbox.from_extents(left - point, low, left + point, high)
        half = _MARK * point
        yield Bbox.from_extents(left - half, centre - half, left + half, centre + half)


def _offsets(distances: Sequence[int] = _DISTANCES) -> Iterator[tuple[float, float]]:
    """Places around a mark in points, near ones first, and at its sides first."""
    turns = [sign * turn for turn in range(_DIRECTIONS // 4 + 1) for sign in (1, -1)]
    for distance in distances:
        for turn in turns:
            angle = 2 * pi * turn / _DIRECTIONS
            yield distance * cos(angle), distance * sin(angle)
            yield -distance * cos(angle), distance * sin(angle)


def _box(centre: NDArray[np.float64], at: tuple[float, float], text: str, point: float) -> Bbox:
    """The box of a number at an offset, with a rim of a point, in pixels."""
    width, height = (0.64 * _SIZE * len(text) + 2) * point, _SIZE * point
    x, y = centre + np.array(at) * point
    return Bbox.from_bounds(x - width / 2, y - height / 2, width, height)
