"""Solid textures: the colour at each point of a body's own frame, corners and all.

Points are ``(3, N)``, in metres; colours are ``(3, N)``: the reflected part of red, green and blue,
linear, in [0, 1].
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import map_coordinates

from recon.data.rooms.shapes import Vector, Vectors, dot

Colour = tuple[float, float, float]
Texture = Callable[[Vectors], Vectors]


@dataclass(frozen=True)
class Solid:
    """One colour."""

    colour: Colour

    def __call__(self, points: Vectors) -> Vectors:
        return np.repeat(np.array(self.colour)[:, None], points.shape[1], axis=1)


@dataclass(frozen=True)
class Checker:
    """Cubes of two colours by turns, with sides ``size``."""

    colours: tuple[Colour, Colour]
    size: float
    offset: Vector

    def __call__(self, points: Vectors) -> Vectors:
        cells = np.floor(points / self.size + np.array(self.offset)[:, None]).sum(0)
        return _mixed(self.colours, cells % 2)


@dataclass(frozen=True)
class Stripes:
    """Two colours by turns along a direction.

    Both together are ``size`` wide; the second colour has ``share`` of it.
    """

    colours: tuple[Colour, Colour]
    size: float
    offset: float
    direction: Vector
    share: float

    def __call__(self, points: Vectors) -> Vectors:
        phase = dot(np.array(self.direction)[:, None], points) / self.size + self.offset
        return _mixed(self.colours, phase % 1 < self.share)


@dataclass(frozen=True)
class Tiles:
    """Cubes of one colour with sides ``size``; joints of the other, ``joint`` of the size wide."""

    colours: tuple[Colour, Colour]
    size: float
    offset: Vector
    joint: float

    def __call__(self, points: Vectors) -> Vectors:
        phase = (points / self.size + np.array(self.offset)[:, None]) % 1
        return _mixed(self.colours, (phase < self.joint).any(0))


@dataclass(frozen=True)
class Clouds:
    """A smooth random mixture of two colours: noise of two octaves.

    The larger octave has the wavelength ``size``. ``stretch`` lengthens it along each axis, which
    gives grain.
    """

    colours: tuple[Colour, Colour]
    size: float
    stretch: Vector
    noise: np.ndarray

    def __call__(self, points: Vectors) -> Vectors:
        grid = points / (self.size * np.array(self.stretch)[:, None])
        octaves = [
            map_coordinates(self.noise, factor * grid, order=1, mode="grid-wrap", prefilter=False)
            for factor in (1, 2.7)
        ]
        return _mixed(self.colours, np.clip(0.5 + 1.3 * (octaves[0] - 0.5) + 0.7 * (octaves[1] - 0.5), 0, 1))


@dataclass(frozen=True)
class Framed:
    """Another texture in a frame, on the sides of a box that are as wide and high as it."""

    inner: Texture
    frame: Colour
    half_width: float
    half_height: float
    border: float

    def __call__(self, points: Vectors) -> Vectors:
        beside = np.abs(points[0]) > self.half_width - self.border
        above = np.abs(points[1]) > self.half_height - self.border
        return np.where(beside | above, np.array(self.frame)[:, None], self.inner(points))


def random_texture(generator: np.random.Generator, palette: list[Colour]) -> Texture:
    """Draw a texture of colours of the palette."""
    first, second = (palette[i] for i in generator.choice(len(palette), 2, replace=False))
    colours = (first, second)
    size = float(generator.uniform(0.12, 0.6))
    offset = _triple(generator.random(3))
    kind = int(generator.integers(6))
    if kind == 0:
        return Checker(colours, size, offset)
    if kind == 1:
        direction = generator.standard_normal(3) * np.array([1, generator.integers(2), 1])
        share = float(generator.uniform(0.15, 0.6))
        return Stripes(colours, size, offset[0], _triple(direction / np.linalg.norm(direction)), share)
    if kind == 2:
        return Tiles(colours, size, offset, joint=float(generator.uniform(0.05, 0.12)))
    if kind == 3:
        stretch = np.where(generator.random(3) < 0.3, 6.0, 1.0)
        return Clouds(colours, size / 2, _triple(stretch), generator.random((8, 8, 8)))
    return Solid(first)


def _triple(values: np.ndarray) -> Vector:
    x, y, z = values.tolist()
    return x, y, z


def _mixed(colours: tuple[Colour, Colour], weight: np.ndarray) -> Vectors:
    first, second = (np.array(colour)[:, None] for colour in colours)
    return first + (second - first) * weight
