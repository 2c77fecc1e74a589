import numpy as np
import pytest

from recon.data.preparation.normals import Camera, matching_axes, normals_from_depth, unit_or_zero

CAMERA = Camera(height=30, width=40, fx=35.0, fy=36.0, cx=18.3, cy=14.6)


def plane_depth(normal: np.ndarray, distance: float) -> np.ndarray:
    """Depth at which rays meet the plane ``normal . point = -distance`` (x right, y up, z towards the camera)."""
    rows, columns = np.mgrid[: CAMERA.height, : CAMERA.width]
    rays = np.stack([(columns - CAMERA.cx) / CAMERA.fx, (CAMERA.cy - rows) / CAMERA.fy, -np.ones(rows.shape)], axis=-1)
    return -distance / (rays @ normal)


@pytest.mark.parametrize("direction", [(0, 0, 1), (0.5, 0, 1), (-0.4, 0.2, 1), (0.1, -0.6, 1)])
def test_the_normal_of_a_plane_is_exact_everywhere(direction: tuple[float, float, float]) -> None:
    normal = np.array(direction) / np.linalg.norm(direction)
    computed = normals_from_depth(plane_depth(normal, 2.0), CAMERA)
    np.testing.assert_allclose(computed, np.broadcast_to(normal, computed.shape), atol=1e-6)
    assert computed.dtype == np.float32


def test_the_floor_points_up() -> None:
    depth = np.where(np.arange(30)[:, None] > 16, plane_depth(np.array([0.0, 1.0, 0.0]), 1.5), 0).clip(0, 20)
    floor = normals_from_depth(depth, CAMERA)[25:]
    np.testing.assert_allclose(floor, np.broadcast_to([0, 1, 0], floor.shape), atol=1e-6)


def test_points_beyond_a_step_in_depth_are_not_fitted() -> None:
    near, far = plane_depth(np.array([0, 0, 1.0]), 2.0), plane_depth(np.array([0.6, 0, 0.8]), 6.0)
    computed = normals_from_depth(np.where(np.arange(40) < 20, near, far), CAMERA)
    np.testing.assert_allclose(computed[:, :20], np.broadcast_to([0, 0, 1], (30, 20, 3)), atol=1e-6)
    np.testing.assert_allclose(computed[:, 20:], np.broadcast_to([0.6, 0, 0.8], (30, 20, 3)), atol=1e-6)


def test_missing_depth_has_no_normal_and_does_not_disturb_its_neighbours() -> None:
    depth = plane_depth(np.array([0.6, 0, 0.8]), 2.0)
    depth[10:15, 12:20] = 0
    computed = normals_from_depth(depth, CAMERA)
    assert not computed[depth == 0].any()
    expected = np.broadcast_to(np.array([0.6, 0, 0.8]), computed.shape)
    np.testing.assert_allclose(computed[depth > 0], expected[depth > 0], atol=1e-6)


def test_fewer_than_three_points_have_no_normal() -> None:
    depth = np.zeros((30, 40))
    depth[5, 5:7] = 2.0
    assert not normals_from_depth(depth, CAMERA).any()


def test_axes_are_found_among_all_orders_and_signs() -> None:
    generator = np.random.default_rng(0)
    ours = unit_or_zero(generator.normal(loc=[0, 0.3, 1], size=(500, 3)))
    for order in [(0, 1, 2), (2, 0, 1), (1, 0, 2)]:
        signs = generator.choice([-1, 1], 3)
        theirs = (ours * signs)[:, list(order)]
        theirs[:50] = 0
        axes, agreement = matching_axes(theirs, ours)
        np.testing.assert_allclose(theirs[50:] @ axes.T, ours[50:], atol=1e-6)
        assert agreement == pytest.approx(1, abs=1e-6)


def test_vectors_become_unit_vectors_and_short_ones_nothing() -> None:
    vectors = np.array([[3.0, 0, 4], [0.1, 0.1, -0.1], [0, 0, 0]])
    np.testing.assert_allclose(unit_or_zero(vectors), [[0.6, 0, 0.8], [0, 0, 0], [0, 0, 0]], atol=1e-7)
