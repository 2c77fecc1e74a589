import math

import numpy as np
import pytest

from recon.data.rooms.shapes import Ball, Box, Cylinder, Shape

SHAPES = [
    Box((0.3, 1.0, -0.2), 0.7, (0.5, 0.9, 0.3)),
    Box((0.0, 0.0, 0.0), 0.0, (1.0, 0.2, 0.6)),
    Ball((-0.4, 0.5, 0.1), 1.3, 0.8),
    Cylinder((0.2, -0.3, 0.4), 2.0, 0.6, 0.35),
]


def own_frame(shape: Shape, point: np.ndarray) -> tuple[float, float, float]:
    """A point from the shape's centre, along its own axes, by its angle and distance about the vertical."""
    x, y, z = point - np.array(shape.centre)
    distance, angle = math.hypot(x, z), math.atan2(x, z) - shape.yaw
    return distance * math.sin(angle), y, distance * math.cos(angle)


def contains(shape: Shape, point: np.ndarray) -> bool:
    x, y, z = own_frame(shape, point)
    match shape:
        case Box(half=half):
            return abs(x) < half[0] and abs(y) < half[1] and abs(z) < half[2]
        case Ball(size=size):
            return math.sqrt(x * x + y * y + z * z) < size
        case Cylinder(size=size, half_height=half_height):
            return math.hypot(x, z) < size and abs(y) < half_height
    raise AssertionError(shape)


def rays(count: int, shape: Shape) -> tuple[np.ndarray, np.ndarray]:
    """Rays from all around a shape to points about it."""
    generator = np.random.default_rng(0)
    origins, targets = generator.normal(size=(2, 3, count)) * np.array([4.0, 0.6])[:, None, None]
    return origins, targets + np.array(shape.centre)[:, None] - origins


@pytest.mark.parametrize("shape", SHAPES)
def test_a_ray_is_inside_between_entry_and_exit_and_nowhere_else(shape: Shape) -> None:
    origins, directions = rays(200, shape)
    entry, exit = shape.interval(origins, directions)
    assert 20 < (entry <= exit).sum() < 200
    for t in np.linspace(-1, 3, 81):
        inside = [contains(shape, point) for point in (origins + t * directions).T]
        np.testing.assert_array_equal((entry < t) & (t < exit), inside)


@pytest.mark.parametrize("shape", SHAPES)
def test_normals_are_unit_vectors_that_point_out_of_the_surface_at_a_right_angle(shape: Shape) -> None:
    origins, directions = rays(300, shape)
    entry, exit = shape.interval(origins, directions)
    points = (origins + entry * directions)[:, entry < exit]
    normals = shape.normals(points)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=0), 1, rtol=1e-12)
    for point, normal in zip(points.T, normals.T, strict=True):
        assert contains(shape, point - 1e-6 * normal)
        assert not contains(shape, point + 1e-6 * normal)
        # One millimetre along the surface leaves it by less than a curved one may in the second
        # order.
        for other in np.eye(3):
            tangent = np.cross(normal, other)
            off = [contains(shape, point + 1e-3 * tangent + height * normal) for height in (-2e-5, 2e-5)]
            assert off == [True, False] or _beside_an_edge(shape, point)


def _beside_an_edge(shape: Shape, point: np.ndarray) -> bool:
    x, y, z = own_frame(shape, point)
    match shape:
        case Box(half=half):
            return sum(abs(abs(value) - side) < 2e-3 for value, side in zip((x, y, z), half, strict=True)) > 1
        case Cylinder(size=size, half_height=half_height):
            return abs(abs(y) - half_height) < 2e-3 and abs(math.hypot(x, z) - size) < 2e-3
    return False


@pytest.mark.parametrize("shape", SHAPES)
def test_the_sphere_about_a_shape_holds_it(shape: Shape) -> None:
    origins, directions = rays(300, shape)
    entry, exit = shape.interval(origins, directions)
    hit = entry < exit
    for t in (entry, exit):
        points = (origins + t * directions)[:, hit] - np.array(shape.centre)[:, None]
        assert (np.linalg.norm(points, axis=0) <= shape.radius + 1e-9).all()


def test_rays_along_the_sides_of_a_box_and_the_axis_of_a_cylinder_are_no_exception() -> None:
    down = np.array([[0.0], [-2.0], [0.0]])
    for shape in (Box((0, 1, 0), 0, (0.5, 1, 0.5)), Cylinder((0, 1, 0), 0, 0.5, 1)):
        entry, exit = shape.interval(np.array([[0.2, 0.7], [4.0, 4.0], [0.1, 0.0]]), np.repeat(down, 2, axis=1))
        assert entry[0] == pytest.approx(1)
        assert exit[0] == pytest.approx(2)
        assert entry[1] > exit[1]
        np.testing.assert_array_equal(shape.normals(np.array([[0.2], [2.0], [0.1]])), [[0], [1], [0]])
