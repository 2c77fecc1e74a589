"""Random rooms: walls, a camera, lamps, and furniture that stands free and in view."""

import colorsys
import math
from dataclasses import dataclass, field

import numpy as np

from recon.data.rooms.room import CLASSES, Body, Camera, Light, Room, Shell
from recon.data.rooms.shapes import Ball, Box, Cylinder, Shape, Vector
from recon.data.rooms.textures import Colour, Framed, Texture, random_texture

_PALETTE = 6  # colours of a room; whatever stands in it is painted with these, so that colour does not tell the class
_MARGIN = 0.3  # metres between the camera and the walls, at least
_CLEARANCE = 0.7  # metres between the camera and the furniture, at least
_VIEW = 0.75  # cosine of the angle from where the camera looks, within which furniture stands


def random_room(generator: np.random.Generator) -> Room:
    """Draw a furnished room."""
    palette = [_colour(generator) for _ in range(_PALETTE)]
    half = (
        float(generator.uniform(1.8, 3.2)),
        float(generator.uniform(1.15, 1.5)),
        float(generator.uniform(1.8, 3.2)),
    )
    shell = Shell(Box((0, half[1], 0), 0, half), *(random_texture(generator, palette) for _ in range(3)))
    camera = _camera(generator, half)
    lights = [_light(generator, half) for _ in range(generator.integers(1, 4))]
    furnishing = _Furnishing(generator, half, palette, camera)
    furnishing.furnish()
    return Room(shell, furnishing.bodies, lights, camera)


def _colour(generator: np.random.Generator) -> Colour:
    hue, saturation, value = generator.random(), 0.75 * generator.beta(1.2, 1.8), generator.uniform(0.3, 0.95)
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return red**2.2, green**2.2, blue**2.2


def _camera(generator: np.random.Generator, half: Vector) -> Camera:
    """A camera with some of the room before it: the farthest of three random places."""
    inner = np.array([half[0] - _MARGIN, half[2] - _MARGIN])
    places, targets = generator.uniform(-1, 1, (2, 3, 2)) * inner
    farthest = np.linalg.norm(targets - places, axis=1).argmax()
    (x, z), (right, ahead) = places[farthest], targets[farthest] - places[farthest]
    return Camera(
        position=(float(x), float(generator.uniform(1.1, min(1.8, 2 * half[1] - 0.5))), float(z)),
        yaw=math.atan2(right, ahead),
        pitch=float(generator.uniform(-0.35, 0.15)),
        focal=float(generator.uniform(0.65, 0.85)),
    )


def _light(generator: np.random.Generator, half: Vector) -> Light:
    x, z = generator.uniform(-0.8, 0.8, 2) * (half[0], half[2])
    warmth, brightness = float(generator.uniform(-0.12, 0.2)), float(generator.uniform(0.6, 1.2))
    return Light(
        position=(float(x), 2 * half[1] - float(generator.uniform(0.15, 0.5)), float(z)),
        size=0.08,
        colour=(brightness * (1 + warmth), brightness, brightness * (1 - warmth)),
        reach=float(generator.uniform(3, 5)),
    )


@dataclass
class _Furnishing:
    """A room during its furnishing.

    Args:
        generator: Source of randomness.
        half: Half the room's width, height and depth.
        palette: Colours to choose from.
        camera: Everything is put before it.
        bodies: The bodies so far.
        taken: Discs of the floor that are taken: x, z and radius.
    """

    generator: np.random.Generator
    half: Vector
    palette: list[Colour]
    camera: Camera
    bodies: list[Body] = field(default_factory=list)
    taken: list[tuple[float, float, float]] = field(default_factory=list)

    def furnish(self) -> None:
        if self._chance(0.6):
            self._rug()
        for put, most in ((self._table, 3), (self._box, 3), (self._ball, 4)):
            for _ in range(self.generator.integers(1, most + 1)):
                put()
        for slot in self.generator.permutation(12)[: self.generator.integers(3, 10)]:
            self._picture(*divmod(int(slot), 3))

    def _rug(self) -> None:
        x, z = (self._uniform(-0.4, 0.4) * self.half[axis] for axis in (0, 2))
        half = (self._uniform(0.4, 1.0), 0.005, self._uniform(0.4, 1.0))
        self._add("floor", self._texture(), Box((x, half[1], z), self._uniform(-0.5, 0.5), half))

    def _table(self) -> None:
        width, depth, height = self._uniform(0.35, 0.75), self._uniform(0.3, 0.5), self._uniform(0.4, 0.8)
        place = self._free_place(math.hypot(width, depth))
        if place is None:
            return
        yaw, thickness, leg = self._turn(), self._uniform(0.015, 0.04), self._uniform(0.02, 0.04)
        top, foot = height - thickness, height / 2 - thickness
        (x, z), texture = place, self._texture()
        if self._chance(0.4):
            width = depth
            self._add("table", texture, Cylinder((x, top, z), yaw, depth, thickness))
            self._add("table", texture, Cylinder((x, foot, z), yaw, 2 * leg, foot))
        else:
            self._add("table", texture, Box((x, top, z), yaw, (width, thickness, depth)))
            for right, ahead in ((-1, -1), (-1, 1), (1, -1), (1, 1)):
                leg_x, leg_z = _moved(x, z, right * (width - leg), ahead * (depth - leg), yaw)
                self._add("table", texture, Box((leg_x, foot, leg_z), yaw, (leg, foot, leg)))
        self._put_upon((x, height, z), yaw, (width, depth))

    def _box(self) -> None:
        half = (
            self._uniform(0.15, 0.5),
            self._uniform(0.7, 1.0) if self._chance(0.3) else self._uniform(0.15, 0.6),
            self._uniform(0.15, 0.4),
        )
        place = self._free_place(math.hypot(half[0], half[2]))
        if place is None:
            return
        (x, z), yaw = place, self._turn()
        self._add("box", self._texture(), Box((x, half[1], z), yaw, half))
        self._put_upon((x, 2 * half[1], z), yaw, (half[0], half[2]))

    def _ball(self) -> None:
        size = self._uniform(0.12, 0.4)
        place = self._free_place(size)
        if place is not None:
            self._add("ball", self._texture(), Ball((place[0], size, place[1]), self._turn(), size))

    def _put_upon(self, place: Vector, yaw: float, half: tuple[float, float]) -> None:
        """Perhaps put a small box or a ball on a surface with sides ``2 * half``."""
        size = self._uniform(0.07, 0.18)
        if self._chance(0.4) or size > min(half):
            return
        right, ahead = (self._uniform(-0.7, 0.7) * (side - size) for side in half)
        x, z = _moved(place[0], place[2], right, ahead, yaw)
        if self._chance(0.5):
            self._add("ball", self._texture(), Ball((x, place[1] + size, z), self._turn(), size))
        else:
            sides = (0.7 * size, self._uniform(0.5, 1.5) * size, 0.7 * size)
            self._add("box", self._texture(), Box((x, place[1] + sides[1], z), self._turn(), sides))

    def _picture(self, wall: int, third: int) -> None:
        """Hang a picture on a third of a wall, if the camera may see it there."""
        along, across = (self.half[2], self.half[0]) if wall % 2 else (self.half[0], self.half[2])
        half = (self._uniform(0.3, 0.85) * along / 3, self._uniform(0.2, 0.5), 0.02)
        yaw = wall * math.pi / 2
        x, z = _moved(0, 0, (third - 1) * 2 * along / 3, across - half[2], yaw)
        y = min(self._uniform(1.3, 1.8), 2 * self.half[1] - half[1] - 0.1)
        frame = self.palette[self.generator.integers(len(self.palette))]
        texture = Framed(self._texture(), frame, half[0], half[1], self._uniform(0.03, 0.07))
        if self._in_view(x, z, half[0]):
            self._add("picture", texture, Box((x, y, z), yaw, half))

    def _free_place(self, radius: float) -> tuple[float, float] | None:
        """A free place in view for a thing of that radius, if one of twenty random ones is."""
        for _ in range(20):
            x = self._uniform(-1, 1) * (self.half[0] - radius)
            z = self._uniform(-1, 1) * (self.half[2] - radius)
            free = all(math.hypot(x - other_x, z - other_z) > radius + other for other_x, other_z, other in self.taken)
            if free and self._in_view(x, z, radius):
                self.taken.append((x, z, radius))
                return x, z
        return None

    def _in_view(self, x: float, z: float, radius: float) -> bool:
        right, ahead = x - self.camera.position[0], z - self.camera.position[2]
        bearing = math.atan2(right, ahead) - self.camera.yaw
        return math.hypot(right, ahead) > radius + _CLEARANCE and math.cos(bearing) > _VIEW

    def _add(self, name: str, texture: Texture, shape: Shape) -> None:
        self.bodies.append(Body(shape, CLASSES.index(name), texture))

    def _texture(self) -> Texture:
        return random_texture(self.generator, self.palette)

    def _turn(self) -> float:
        return self._uniform(-math.pi, math.pi)

    def _uniform(self, low: float, high: float) -> float:
        return float(self.generator.uniform(low, high))

    def _chance(self, probability: float) -> bool:
        return bool(self.generator.random() < probability)


def _moved(x: float, z: float, right: float, ahead: float, yaw: float) -> tuple[float, float]:
    """The place ``right`` and ``ahead`` of another, in the frame of a body with that yaw."""
    cosine, sine = math.cos(yaw), math.sin(yaw)
    return x + cosine * right + sine * ahead, z + cosine * ahead - sine * right
