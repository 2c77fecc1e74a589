"""Whole rooms against a reference that follows one ray at a time, face by face."""

import math
from collections.abc import Iterator

import numpy as np
import pytest

from recon.data.rooms.furnishing import random_room
from recon.data.rooms.render import cast, hidden, shade
from recon.data.rooms.room import CLASSES, Body, Camera, Light, Room, Shell
from recon.data.rooms.shapes import Ball, Box, Cylinder, Shape
from recon.data.rooms.textures import Solid

Vector = tuple[float, float, float]
Crossing = tuple[float, Vector]  # place on the ray, outward normal

GREY = Solid((0.5, 0.5, 0.5))


def turned(vector: Vector, yaw: float) -> Vector:
    x, y, z = vector
    return x * math.cos(yaw) + z * math.sin(yaw), y, z * math.cos(yaw) - x * math.sin(yaw)


def crossings(shape: Shape, origin: Vector, direction: Vector) -> Iterator[Crossing]:
    """Where a ray crosses the surface of a shape."""
    o = turned(tuple(a - b for a, b in zip(origin, shape.centre, strict=True)), -shape.yaw)
    d = turned(direction, -shape.yaw)
    for t, normal in {Box: box_faces, Ball: ball_surface, Cylinder: cylinder_surface}[type(shape)](shape, o, d):
        yield t, turned(normal, shape.yaw)


def at(o: Vector, d: Vector, t: float) -> Vector:
    return o[0] + t * d[0], o[1] + t * d[1], o[2] + t * d[2]


def box_faces(box: Box, o: Vector, d: Vector) -> Iterator[Crossing]:
    for axis in range(3):
        for sign in (-1.0, 1.0):
            if d[axis]:
                t = (sign * box.half[axis] - o[axis]) / d[axis]
                point = at(o, d, t)
                if all(abs(point[other]) <= box.half[other] for other in range(3) if other != axis):
                    yield t, tuple(sign if other == axis else 0.0 for other in range(3))


def ball_surface(ball: Ball, o: Vector, d: Vector) -> Iterator[Crossing]:
    for t in roots(sum(a * a for a in d), sum(a * b for a, b in zip(o, d, strict=True)), sum(a * a for a in o), ball):
        yield t, tuple(a / ball.size for a in at(o, d, t))


def cylinder_surface(cylinder: Cylinder, o: Vector, d: Vector) -> Iterator[Crossing]:
    for t in roots(d[0] ** 2 + d[2] ** 2, o[0] * d[0] + o[2] * d[2], o[0] ** 2 + o[2] ** 2, cylinder):
        x, y, z = at(o, d, t)
        if abs(y) <= cylinder.half_height:
            yield t, (x / cylinder.size, 0.0, z / cylinder.size)
    for sign in (-1.0, 1.0):
        t = (sign * cylinder.half_height - o[1]) / d[1]
        x, _, z = at(o, d, t)
        if math.hypot(x, z) <= cylinder.size:
            yield t, (0.0, sign, 0.0)


def roots(a: float, half_b: float, squares: float, shape: Ball | Cylinder) -> Iterator[float]:
    discriminant = half_b**2 - a * (squares - shape.size**2)
    if discriminant >= 0:
        for sign in (-1, 1):
            yield (-half_b + sign * math.sqrt(discriminant)) / a


def reference(room: Room, direction: Vector) -> tuple[float, int, Vector]:
    """What a ray from the camera meets first: its place, the class, and the normal towards the camera."""
    origin = room.camera.position
    t, outward = max(crossings(room.shell.shape, origin, direction))
    name = {1.0: "ceiling", -1.0: "floor"}.get(outward[1], "wall")
    nearest = (t, CLASSES.index(name), tuple(-a for a in outward))
    for body in room.bodies:
        for t, normal in crossings(body.shape, origin, direction):
            if 0 < t < nearest[0]:
                nearest = (t, body.label, normal)
    return nearest


@pytest.mark.parametrize("seed", range(8))
def test_every_ray_meets_what_the_reference_says(seed: int) -> None:
    room = random_room(np.random.default_rng(seed))
    directions = room.camera.rays(17, 23)
    hits = cast(room, directions)
    expected = [reference(room, tuple(direction)) for direction in directions.T.tolist()]
    t, label, normals = zip(*expected, strict=True)
    np.testing.assert_allclose(hits.t, t, rtol=1e-9)
    np.testing.assert_array_equal(hits.label, label)
    np.testing.assert_allclose(hits.normals, np.array(normals).T, atol=1e-7)
    np.testing.assert_allclose(
        hits.points, np.array(room.camera.position)[:, None] + np.array(t) * directions, rtol=1e-9, atol=1e-9
    )


def test_hidden_places_are_those_with_a_crossing_on_the_way() -> None:
    expected, found = [], []
    for seed in range(5):
        room = random_room(np.random.default_rng(seed))
        hits = cast(room, room.camera.rays(13, 17))
        place = np.array(room.lights[0].position)
        found.extend(hidden(room, hits.points, hits.normals, place[:, None]))
        for point, normal in zip(hits.points.T, hits.normals.T, strict=True):
            start = point + 1e-4 * normal
            way = place - start
            ray = (tuple(start.tolist()), tuple(way.tolist()))
            crossed = any(0 < t < 1 for body in room.bodies for t, _ in crossings(body.shape, *ray))
            expected.append(way @ normal <= 0 or crossed)
    assert found == expected
    assert 0.05 < np.mean(found) < 0.95


def empty_room(*bodies: Body, yaw: float = 0.0, pitch: float = 0.0, light: float = 1.0) -> Room:
    """A room of 6 x 3 x 6 metres; the camera stands in the middle of it, 1.5 m high, a lamp above it."""
    shell = Shell(Box((0, 1.5, 0), 0, (3, 1.5, 3)), GREY, GREY, GREY)
    lamp = Light((0, 2.5, 0), 0.0, (light, light, light), 3.0)
    return Room(shell, list(bodies), [lamp], Camera((0, 1.5, 0), yaw, pitch, 1.0))


def test_depth_is_measured_along_the_optical_axis_not_along_the_ray() -> None:
    room = empty_room()
    hits = cast(room, room.camera.rays(5, 5))
    assert (hits.label == CLASSES.index("wall")).all()
    np.testing.assert_allclose(hits.t, 3)


@pytest.mark.parametrize("yaw", [0.3, 2.0, -1.1])
def test_a_camera_turned_by_yaw_and_pitch_sees_what_is_there(yaw: float) -> None:
    ahead = (2 * math.sin(yaw) * math.cos(0.2), 1.5 + 2 * math.sin(0.2), 2 * math.cos(yaw) * math.cos(0.2))
    room = empty_room(Body(Ball(ahead, 0.0, 0.5), CLASSES.index("ball"), GREY), yaw=yaw, pitch=0.2)
    hits = cast(room, room.camera.rays(1, 1))
    assert hits.t.item() == pytest.approx(1.5)
    assert hits.label.item() == CLASSES.index("ball")
    np.testing.assert_allclose(hits.normals[:, 0], -room.camera.axes[2], atol=1e-12)


def test_the_camera_has_right_angles_and_its_right_is_on_the_right_of_the_image() -> None:
    camera = Camera((0, 0, 0), 0.8, -0.3, 0.7)
    np.testing.assert_allclose(camera.axes @ camera.axes.T, np.eye(3), atol=1e-12)
    upper_left, *_, lower_right = camera.rays(3, 5).T
    right, up, forward = camera.axes
    assert upper_left @ right < 0 < lower_right @ right
    assert upper_left @ up > 0 > lower_right @ up
    assert upper_left @ forward == pytest.approx(1)


def test_the_lamps_light_falls_with_distance_and_angle_and_a_body_between_takes_it_away() -> None:
    down = math.atan2(1.5, 2.8)

    def floor_light(*bodies: Body, light: float) -> float:
        """Light from the floor 2.8 m ahead."""
        room = empty_room(*bodies, pitch=-down, light=light)
        hits = cast(room, room.camera.rays(1, 1))
        assert hits.label.item() == CLASSES.index("floor")
        return float(shade(room, hits, np.random.default_rng(0)).mean())

    dark, lit = floor_light(light=0.0), floor_light(light=1.0)
    distance = math.hypot(2.5, 2.8)
    reflected = 0.5 * (2.5 / distance) / (1 + (distance / 3) ** 2)
    assert dark > 0
    assert lit - dark == pytest.approx(reflected, rel=1e-3)
    between = Body(Box((0, 1.75, 0.84), 0.0, (0.2, 0.05, 0.05)), CLASSES.index("box"), GREY)
    assert floor_light(between, light=1.0) == pytest.approx(dark)
    beyond = Body(Box((0, 1.75, -0.84), 0.0, (0.2, 0.05, 0.05)), CLASSES.index("box"), GREY)
    assert floor_light(beyond, light=1.0) == pytest.approx(lit)
