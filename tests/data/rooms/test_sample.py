from functools import cache

import numpy as np
import pytest

from recon.data.rooms.furnishing import random_room
from recon.data.rooms.room import CLASSES, Camera
from recon.data.rooms.sample import Split, render_room

SIZE = (48, 64)


@cache
def sample(index: int, split: Split = "train", seed: int = 0) -> dict[str, np.ndarray]:
    return render_room(seed, split, index, *SIZE)


def camera_of(index: int) -> Camera:
    return random_room(np.random.default_rng([0, 0, index, 1])).camera


def test_a_room_is_a_function_of_its_arguments_alone() -> None:
    np.random.seed(1)
    again = render_room(0, "train", 3, *SIZE)
    for name, array in sample(3).items():
        assert array.tobytes() == again[name].tobytes()
    for other in (sample(4), sample(3, "val"), sample(3, seed=1)):
        assert (other["image"] != sample(3)["image"]).mean() > 0.5


def test_arrays_have_the_layouts_types_and_shapes() -> None:
    expected = {
        "image": (np.uint8, (3,)),
        "label": (np.int8, ()),
        "depth": (np.float32, ()),
        "normal": (np.float32, (3,)),
    }
    assert {name: (array.dtype, array.shape[2:]) for name, array in sample(0).items()} == expected
    assert all(array.shape[:2] == SIZE for array in sample(0).values())


def test_truth_is_sampled_at_the_centres_of_pixels_so_that_a_larger_image_of_the_room_holds_it() -> None:
    large = render_room(0, "train", 1, 3 * SIZE[0], 3 * SIZE[1])
    small = sample(1)
    np.testing.assert_array_equal(large["label"][1::3, 1::3], small["label"])
    both = (large["depth"][1::3, 1::3] > 0) & (small["depth"] > 0)
    assert both.mean() > 0.7
    np.testing.assert_allclose(large["depth"][1::3, 1::3][both], small["depth"][both], rtol=1e-6)
    np.testing.assert_allclose(large["normal"][1::3, 1::3][both], small["normal"][both], atol=1e-6)


@pytest.mark.parametrize("index", range(5))
def test_normals_are_unit_vectors_that_face_the_camera_or_zero_exactly_where_depth_is(index: int) -> None:
    normal, depth = sample(index)["normal"], sample(index)["depth"]
    length = np.linalg.norm(normal, axis=-1)
    known = depth > 0
    np.testing.assert_allclose(length[known], 1, rtol=1e-6)
    assert (length[~known] == 0).all()
    assert (depth[~known] == 0).all()
    assert ((normal * towards_camera(index)).sum(-1)[known] > 0).all()


def towards_camera(index: int) -> np.ndarray:
    """From what a pixel shows to the camera, one metre along its axis: x right, y up, z towards the camera."""
    height, width = SIZE
    rows, columns = np.mgrid[:height, :width] + 0.5
    focal = camera_of(index).focal * width
    return np.stack([(width / 2 - columns) / focal, (rows - height / 2) / focal, np.ones(SIZE)], axis=-1)


@pytest.mark.parametrize("index", range(5))
def test_on_planes_normals_are_those_of_the_points_that_depth_gives(index: int) -> None:
    normal, depth = sample(index)["normal"], sample(index)["depth"]
    points = -depth[..., None].astype(float) * towards_camera(index)
    right, down = np.diff(points, axis=1)[:-1], np.diff(points, axis=0)[:, :-1]
    computed = np.cross(down, right)  # x right, y up, z towards the camera is right-handed
    computed /= np.linalg.norm(computed, axis=-1, keepdims=True).clip(1e-12)
    corners = [normal[:-1, :-1], normal[:-1, 1:], normal[1:, :-1]]
    label = sample(index)["label"]
    plane = np.isin(label, [CLASSES.index(name) for name in ("wall", "ceiling")])
    flat = plane[:-1, :-1] & plane[:-1, 1:] & plane[1:, :-1] & (np.linalg.norm(corners[0], axis=-1) > 0)
    for corner in corners[1:]:
        flat &= (corner == corners[0]).all(-1)
    assert flat.mean() > 0.05
    assert ((computed * corners[0]).sum(-1)[flat] > 0.999).all()


def test_the_floor_looks_up_and_the_ceiling_down() -> None:
    for name, sign in (("floor", 1), ("ceiling", -1)):
        vertical = []
        for index in range(12):
            up = camera_of(index).axes @ [0, 1, 0] * [1, 1, -1]
            seen = (sample(index)["label"] == CLASSES.index(name)) & (sample(index)["depth"] > 0)
            vertical.append(sample(index)["normal"][seen] @ up)
        # The sides of a rug, a centimetre high, are floor too.
        assert (sign * np.concatenate(vertical) > 0.999).mean() > 0.98


def test_every_class_is_common_and_every_pixel_has_one() -> None:
    labels = np.stack([sample(index)["label"] for index in range(40)])
    assert labels.min() == 0
    assert labels.max() == len(CLASSES) - 1 == 6
    for label in range(len(CLASSES)):
        assert (labels == label).mean() > 0.01
        assert (labels == label).any(axis=(1, 2)).mean() > 0.4


def test_a_few_pixels_of_every_room_are_lost() -> None:
    lost = np.array([(sample(index)["depth"] == 0).mean() for index in range(40)])
    assert lost.min() > 0
    assert 0.02 < lost.mean() < 0.15
    assert lost.max() < 0.5


def test_depth_is_lost_beside_silhouettes_more_than_elsewhere() -> None:
    beside, elsewhere = [], []
    for index in range(20):
        label, lost = sample(index)["label"], sample(index)["depth"] == 0
        ball = label == CLASSES.index("ball")
        edge = np.zeros_like(ball)
        edge[:, :-1] |= ball[:, 1:] != ball[:, :-1]
        beside.append(lost[edge])
        elsewhere.append(lost[~edge])
    assert np.concatenate(beside).mean() > 3 * np.concatenate(elsewhere).mean()


def test_depths_are_those_of_rooms() -> None:
    depth = np.stack([sample(index)["depth"] for index in range(40)])
    known = depth[depth > 0]
    assert known.min() > 0.2
    assert known.max() < 10
    assert np.percentile(known, 95) > 2 * np.percentile(known, 5)


def test_colour_alone_does_not_give_the_class() -> None:
    """A table of the commonest class by colour, learnt from 60 rooms, hardly beats "wall" in 20 others."""

    def colours(index: int) -> np.ndarray:
        return (sample(index)["image"] // 32 @ [64, 8, 1]).ravel()

    counts = np.zeros((512, len(CLASSES)))
    for index in range(60):
        np.add.at(counts, (colours(index), sample(index)["label"].ravel()), 1)
    labels = np.concatenate([sample(index)["label"].ravel() for index in range(60, 80)])
    guesses = counts.argmax(1)[np.concatenate([colours(index) for index in range(60, 80)])]
    wall = (labels == CLASSES.index("wall")).mean()
    assert (guesses == labels).mean() < wall + 0.05


def test_images_are_exposed() -> None:
    for index in range(20):
        image = sample(index)["image"]
        assert 60 < image.mean() < 200
        assert image.std() > 10
