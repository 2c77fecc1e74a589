"""A room: its shell, the bodies in it, lights and a camera.

World axes: x, y up from the floor, z; in metres.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from recon.data.rooms.shapes import Box, Shape, Vector, dot
from recon.data.rooms.textures import Colour, Texture

CLASSES = ("ceiling", "floor", "wall", "picture", "table", "box", "ball")
"""Names of the classes; a label is an index. A rug counts as floor, a frame as picture."""


@dataclass(frozen=True)
class Body:
    """A shape with its class and its texture."""

    shape: Shape
    label: int
    texture: Texture


@dataclass(frozen=True)
class Shell:
    """A box seen from inside, with the textures of its floor, ceiling and walls."""

    shape: Box
    floor: Texture
    ceiling: Texture
    wall: Texture


@dataclass(frozen=True)
class Light:
    """A lamp, a cube with sides ``2 * size``; at ``reach`` metres its light is halved."""

    position: Vector
    size: float
    colour: Colour
    reach: float


@dataclass(frozen=True)
class Camera:
    """A pinhole camera.

    Args:
        position: Its place.
        yaw: Its direction, in radians, from z towards x.
        pitch: Its angle upwards, in radians.
        focal: Focal length in widths of the image.
    """

    position: Vector
    yaw: float
    pitch: float
    focal: float

    @cached_property
    def axes(self) -> np.ndarray:
        """Rows: the camera's right, up and forward in the world, ``(3, 3)``."""
        yaw, pitch = self.yaw, self.pitch
        return np.array(
            [
                [np.cos(yaw), 0, -np.sin(yaw)],
                [-np.sin(yaw) * np.sin(pitch), np.cos(pitch), -np.cos(yaw) * np.sin(pitch)],
                [np.sin(yaw) * np.cos(pitch), np.sin(pitch), np.cos(yaw) * np.cos(pitch)],
            ]
        )

    def rays(self, height: int, width: int, offset: tuple[float, float] = (0.0, 0.0)) -> np.ndarray:
        """Directions through pixels, row by row, ``(3, height * width)``.

        They are one metre deep, so that ``t`` in ``position + t * direction`` is depth along the
        optical axis.

        Args:
            height: Height of the image, in pixels.
            width: Width of the image, in pixels.
            offset: From the centres of the pixels, down and to the right, in pixels.
        """
        focal = self.focal * width
        right = (np.arange(width) + 0.5 + offset[1] - width / 2) / focal
        up = (height / 2 - np.arange(height) - 0.5 - offset[0]) / focal
        local = np.stack([*np.meshgrid(right, up), np.ones((height, width))]).reshape(3, -1)
        return np.stack([dot(axis[:, None], local) for axis in self.axes.T])


@dataclass(frozen=True)
class Room:
    """A room with the things in it, its lamps and a camera."""

    shell: Shell
    bodies: list[Body]
    lights: list[Light]
    camera: Camera
