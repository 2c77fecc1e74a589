"""Convex bodies that stand upright, and the interval in which a ray is inside of them.

A convex body meets a ray in one interval, and is an intersection of simpler ones: a box is three
slabs, a cylinder a disc and a slab. Points and directions are float64 arrays ``(3, N)``: x, y up,
z.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

Vector = tuple[float, float, float]
Vectors = np.ndarray
Interval = tuple[np.ndarray, np.ndarray]

_NEVER_ZERO = 1e-12  # stands for a direction parallel to a slab, which would be divided by


@dataclass(frozen=True)
class Shape(ABC):
    """A convex body, turned about its vertical axis.

    Args:
        centre: Place of its centre, ``(x, y, z)`` in metres.
        yaw: Its angle about the vertical, in radians, from z towards x.
    """

    centre: Vector
    yaw: float

    @abstractmethod
    def local_interval(self, origins: Vectors, directions: Vectors) -> Interval:
        """:meth:`interval` in the body's own frame."""

    @abstractmethod
    def local_normals(self, points: Vectors) -> Vectors:
        """:meth:`normals` in the body's own frame."""

    @property
    @abstractmethod
    def radius(self) -> float:
        """Radius of a sphere about the centre that holds the body."""

    def interval(self, origins: Vectors, directions: Vectors) -> Interval:
        """The interval in which rays ``origin + t * direction`` are inside.

        Args:
            origins: ``(3, N)`` or ``(3, 1)``.
            directions: ``(3, N)``, of any length.

        Returns:
            ``t`` of entry and of exit, ``(N,)`` each; the ray misses the body where entry is
            greater than exit.
        """
        return self.local_interval(self.to_local(origins), _turned(directions, -self.yaw))

    def normals(self, points: Vectors) -> Vectors:
        """Unit normals, outwards, at points on the surface; both ``(3, N)``."""
        return _turned(self.local_normals(self.to_local(points)), self.yaw)

    def to_local(self, points: Vectors) -> Vectors:
        """Points in the body's own frame, ``(3, N)``: from its centre, along its sides."""
        return _turned(points - np.array(self.centre)[:, None], -self.yaw)


@dataclass(frozen=True)
class Box(Shape):
    """A box with sides ``2 * half``."""

    half: Vector

    @property
    def radius(self) -> float:
        return float(np.linalg.norm(self.half))

    def local_interval(self, origins: Vectors, directions: Vectors) -> Interval:
        entry, exit = zip(
            *(_slab(half, *ray) for half, *ray in zip(self.half, origins, directions, strict=True)), strict=True
        )
        return np.maximum(np.maximum(*entry[:2]), entry[2]), np.minimum(np.minimum(*exit[:2]), exit[2])

    def local_normals(self, points: Vectors) -> Vectors:
        along = np.abs(points / np.array(self.half)[:, None]).argmax(0)
        normals = np.zeros_like(points)
        columns = np.arange(points.shape[1])
        normals[along, columns] = np.sign(points[along, columns])
        return normals


@dataclass(frozen=True)
class Ball(Shape):
    """A ball."""

    size: float

    @property
    def radius(self) -> float:
        return self.size

    def local_interval(self, origins: Vectors, directions: Vectors) -> Interval:
        return _round(self.size, origins, directions)

    def local_normals(self, points: Vectors) -> Vectors:
        return points / np.linalg.norm(points, axis=0)


@dataclass(frozen=True)
class Cylinder(Shape):
    """An upright cylinder, ``2 * half_height`` high."""

    size: float
    half_height: float

    @property
    def radius(self) -> float:
        return float(np.hypot(self.size, self.half_height))

    def local_interval(self, origins: Vectors, directions: Vectors) -> Interval:
        side = _round(self.size, origins[::2], directions[::2])
        caps = _slab(self.half_height, origins[1], directions[1])
        return np.maximum(side[0], caps[0]), np.minimum(side[1], caps[1])

    def local_normals(self, points: Vectors) -> Vectors:
        distance = np.hypot(points[0], points[2])
        on_cap = np.abs(points[1]) * self.size > distance * self.half_height
        normals = points * np.array([[1.0], [0.0], [1.0]]) / np.maximum(distance, _NEVER_ZERO)
        return np.where(on_cap, np.sign(points) * np.array([[0.0], [1.0], [0.0]]), normals)


def dot(first: Vectors, second: Vectors) -> np.ndarray:
    """Inner products of vectors, ``(3, N)`` or ``(3, 1)`` each, in a fixed order of operations.

    A library would choose its own order, and results would differ between machines.
    """
    return first[0] * second[0] + first[1] * second[1] + first[2] * second[2]


def _slab(half: float, origins: np.ndarray, directions: np.ndarray) -> Interval:
    """The interval in which one coordinate is between ``-half`` and ``half``."""
    inverse = 1 / np.where(np.abs(directions) < _NEVER_ZERO, _NEVER_ZERO, directions)
    middle, reach = -origins * inverse, half * np.abs(inverse)
    return middle - reach, middle + reach


def _round(radius: float, origins: Vectors, directions: Vectors) -> Interval:
    """The interval in which the length of the given coordinates is below ``radius``."""
    a = np.maximum((directions * directions).sum(0), _NEVER_ZERO**2)
    middle = -(origins * directions).sum(0) / a
    reach = middle * middle - ((origins * origins).sum(0) - radius * radius) / a
    missed = reach < 0
    reach = np.sqrt(np.where(missed, 0, reach))
    return np.where(missed, np.inf, middle - reach), np.where(missed, -np.inf, middle + reach)


def _turned(vectors: Vectors, yaw: float) -> Vectors:
    if not yaw:
        return vectors
    x, y, z = vectors
    cosine, sine = math.cos(yaw), math.sin(yaw)
    turned = np.empty_like(vectors)
    turned[0] = cosine * x + sine * z
    turned[1] = y
    turned[2] = cosine * z - sine * x
    return turned
