"""Ray casting: the first surface on each ray, its light, and what hides a place."""

from dataclasses import dataclass

import numpy as np

from recon.data.rooms.room import CLASSES, Light, Room
from recon.data.rooms.shapes import Shape, Vectors, dot

_CEILING, _FLOOR, _WALL = (CLASSES.index(name) for name in ("ceiling", "floor", "wall"))
_CLEARANCE = 1e-4  # metres that a shadow ray starts above the surface it leaves
_AMBIENT = 0.35  # light from everywhere ...
_CORNER = 0.35  # ... which part of it is lost where two surfaces of the room meet ...
_CORNER_REACH = 0.35  # ... and how far that is felt, in metres


@dataclass(frozen=True)
class Hits:
    """The first surface on each ray.

    Args:
        t: Place on each ray, ``(N,)``.
        label: Class, ``(N,)``, int8.
        points: Points of the surfaces, ``(3, N)``.
        normals: Unit normals, towards the origin of the ray, ``(3, N)``.
        colours: Reflectance, ``(3, N)``.
    """

    t: np.ndarray
    label: np.ndarray
    points: Vectors
    normals: Vectors
    colours: Vectors


def cast(room: Room, directions: Vectors) -> Hits:
    """Follow rays from the camera, ``(3, N)``, to the first surface."""
    origin = np.array(room.camera.position)[:, None]
    t, nearest = room.shell.shape.interval(origin, directions)[1], np.full(directions.shape[1], -1)
    squares = dot(directions, directions)
    for index, body in enumerate(room.bodies):
        rays = _rays_near(body.shape, origin, directions, squares)
        entry, exit = body.shape.interval(origin, directions[:, rays])
        closer = (entry <= exit) & (entry > 0) & (entry < t[rays])
        t[rays[closer]], nearest[rays[closer]] = entry[closer], index
    points = origin + t * directions
    hits = Hits(t, np.empty(t.shape, np.int8), points, np.empty_like(points), np.empty_like(points))
    _fill_in_shell(room, hits, np.flatnonzero(nearest < 0))
    for index, body in enumerate(room.bodies):
        seen = np.flatnonzero(nearest == index)
        hits.label[seen] = body.label
        hits.normals[:, seen] = body.shape.normals(points[:, seen])
        hits.colours[:, seen] = body.texture(body.shape.to_local(points[:, seen]))
    return hits


def _fill_in_shell(room: Room, hits: Hits, seen: np.ndarray) -> None:
    """Fill in the rays ``seen``, which meet the shell of the room."""
    shell = room.shell
    inwards = -shell.shape.normals(hits.points[:, seen])
    hits.normals[:, seen] = inwards
    for label, texture, there in (
        (_FLOOR, shell.floor, inwards[1] > 0.5),
        (_CEILING, shell.ceiling, inwards[1] < -0.5),
        (_WALL, shell.wall, np.abs(inwards[1]) < 0.5),
    ):
        rays = seen[there]
        hits.label[rays] = label
        hits.colours[:, rays] = texture(shell.shape.to_local(hits.points[:, rays]))


def _rays_near(shape: Shape, origin: Vectors, directions: Vectors, squares: np.ndarray) -> np.ndarray:
    """Indices of the rays that meet the sphere about a shape: all that can meet the shape.

    As a rule they are few.

    Args:
        shape: The shape.
        origin: Start of the rays, ``(3, 1)``.
        directions: ``(3, N)``.
        squares: Their squared lengths, ``(N,)``.
    """
    way = np.array(shape.centre)[:, None] - origin
    tangent = float(dot(way, way)[0]) - shape.radius**2
    if tangent <= 0:
        return np.arange(directions.shape[1])
    along = dot(way, directions)
    return np.flatnonzero((along > 0) & (along * along >= tangent * squares))


def hidden(room: Room, points: Vectors, normals: Vectors, place: Vectors) -> np.ndarray:
    """Whether a place in the room cannot be seen from points on surfaces.

    Args:
        room: The room, whose bodies may stand between.
        points: ``(3, N)``.
        normals: Normals of the surfaces, ``(3, N)``; a place behind them is hidden.
        place: ``(3, 1)``.

    Returns:
        ``(N,)``, bool.
    """
    from_place = points + _CLEARANCE * normals - place
    unseen = dot(from_place, normals) >= 0
    facing = np.flatnonzero(~unseen)
    from_place = from_place[:, facing]
    squares = dot(from_place, from_place)
    for body in room.bodies:
        rays = _rays_near(body.shape, place, from_place, squares)
        entry, exit = body.shape.interval(place, from_place[:, rays])
        unseen[facing[rays]] |= (entry <= exit) & (exit > 0) & (entry < 1)
    return unseen


def shade(room: Room, hits: Hits, generator: np.random.Generator) -> Vectors:
    """Light from each hit to the camera: red, green and blue, ``(3, N)``, linear, not negative.

    Shadows are those of one random point of each lamp; the mean of several calls has soft ones.
    """
    light = np.repeat(_AMBIENT * _openness(room, hits.points)[None], 3, axis=0)
    for lamp in room.lights:
        light += _direct(room, lamp, hits, generator)
    return light * hits.colours


def _direct(room: Room, lamp: Light, hits: Hits, generator: np.random.Generator) -> Vectors:
    place = (np.array(lamp.position) + lamp.size * generator.uniform(-1, 1, 3))[:, None]
    way = place - hits.points
    distance = np.sqrt(dot(way, way))
    strength = dot(way, hits.normals) / distance / (1 + (distance / lamp.reach) ** 2)
    strength[hidden(room, hits.points, hits.normals, place)] = 0
    return np.array(lamp.colour)[:, None] * strength


def _openness(room: Room, points: Vectors) -> np.ndarray:
    """How much of the ambient light reaches a point: less near floor, ceiling and walls."""
    box = room.shell.shape
    gap = np.array(box.half)[:, None] - np.abs(box.to_local(points))
    return (1 - _CORNER * np.exp(-gap / _CORNER_REACH)).prod(0)
