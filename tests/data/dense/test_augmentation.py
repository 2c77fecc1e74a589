"""Views against a reference that computes them pixel by pixel, and against what a camera would see."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from recon.data.dense.augmentation import (
    SCALES,
    RandomViews,
    View,
    view_depth,
    view_disparity,
    view_image,
    view_labels,
    view_normals,
    whole,
)

Seen = Callable[[Tensor, View], Tensor]


def view(window: tuple[int, int], size: tuple[int, int], scale: float = 1.5, mirrored: bool = False) -> View:
    return View(size, slice(0, window[0]), slice(0, window[1]), scale, mirrored)


def source(pixel: int, window: int, size: int) -> float:
    """Where the centre of a view's pixel is in the window, whose first pixel's centre is at 0."""
    return (pixel + 0.5) * window / size - 0.5


def nearest(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """``(C, h, w)`` enlarged, pixel by pixel."""
    out = np.empty((len(values), *size), values.dtype)
    for row in range(size[0]):
        for column in range(size[1]):
            y = int(np.floor(source(row, values.shape[1], size[0]) + 0.5))
            x = int(np.floor(source(column, values.shape[2], size[1]) + 0.5))
            out[:, row, column] = values[:, y, x]
    return out


def bilinear(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """``(C, h, w)`` enlarged, pixel by pixel; outside of the window the values at its edge go on."""
    out = np.empty((len(values), *size))
    for row in range(size[0]):
        for column in range(size[1]):
            total = np.zeros(len(values))
            y, x = source(row, values.shape[1], size[0]), source(column, values.shape[2], size[1])
            for i in (int(np.floor(y)), int(np.floor(y)) + 1):
                for j in (int(np.floor(x)), int(np.floor(x)) + 1):
                    inside = values[:, np.clip(i, 0, values.shape[1] - 1), np.clip(j, 0, values.shape[2] - 1)]
                    total += (1 - abs(y - i)) * (1 - abs(x - j)) * inside
            out[:, row, column] = total
    return out


WINDOWS = [((4, 6), (6, 9)), ((5, 5), (6, 8)), ((1, 2), (4, 4)), ((10, 13), (12, 16)), ((6, 8), (6, 8))]
windows = pytest.mark.parametrize(("window", "size"), WINDOWS)
either_way = pytest.mark.parametrize("mirrored", [False, True])


@windows
@either_way
def test_an_image_equals_the_reference(window: tuple[int, int], size: tuple[int, int], mirrored: bool) -> None:
    image = torch.rand(3, *window, generator=torch.Generator().manual_seed(0))
    expected = bilinear(image.numpy(), size)[..., :: -1 if mirrored else 1]
    np.testing.assert_allclose(view_image(image, view(window, size, 1.5, mirrored)), expected, atol=1e-6)


@windows
@either_way
def test_labels_equal_the_reference(window: tuple[int, int], size: tuple[int, int], mirrored: bool) -> None:
    labels = torch.arange(window[0] * window[1]).view(window) - 1
    expected = nearest(labels[None].numpy(), size)[0, :, :: -1 if mirrored else 1]
    seen = view_labels(labels, view(window, size, 1.5, mirrored))
    assert seen.dtype == torch.int64
    np.testing.assert_array_equal(seen, expected)


@windows
@either_way
@pytest.mark.parametrize(("seen", "factor"), [(view_depth, 1 / 1.5), (view_disparity, 1.5)])
def test_depth_shrinks_and_disparity_grows_with_the_scale(
    seen: Seen, factor: float, window: tuple[int, int], size: tuple[int, int], mirrored: bool
) -> None:
    depth = torch.rand(1, *window, generator=torch.Generator().manual_seed(0)) + 1
    depth[0, 0, 1] = torch.nan
    expected = nearest(depth.numpy(), size)[..., :: -1 if mirrored else 1] * factor
    np.testing.assert_allclose(seen(depth, view(window, size, 1.5, mirrored)), expected, rtol=1e-6)


@windows
@either_way
def test_normals_equal_the_reference(window: tuple[int, int], size: tuple[int, int], mirrored: bool) -> None:
    generator = np.random.default_rng(0)
    vectors = generator.normal(size=(3, *window))
    normals = vectors / np.linalg.norm(vectors, axis=0)
    holes = generator.random(window) < 0.3
    normals[:, holes] = np.nan
    expected = bilinear(np.where(holes, 0, normals), size)
    expected /= np.maximum(np.linalg.norm(expected, axis=0), 1e-9)
    expected[:, nearest(holes[None], size)[0]] = np.nan
    if mirrored:
        expected = expected[..., ::-1] * np.array([-1, 1, 1]).reshape(3, 1, 1)
    seen = view_normals(torch.tensor(normals, dtype=torch.float32), view(window, size, 1.5, mirrored))
    np.testing.assert_allclose(seen, expected, atol=1e-5)


def test_pixels_without_a_normal_do_not_bend_their_neighbours() -> None:
    normals = torch.zeros(3, 4, 4)
    normals[0] = 1.0
    normals[:, :, 2:] = torch.nan
    seen = view_normals(normals, view((4, 4), (6, 6)))
    assert seen[:, :, 3:].isnan().all()
    assert (seen[:, :, :3] == torch.tensor([1.0, 0.0, 0.0]).view(3, 1, 1)).all()


def test_where_opposite_normals_cancel_there_is_none() -> None:
    normals = torch.zeros(3, 2, 2)
    normals[2, 0], normals[2, 1], normals[0, 1] = 1.0, -1.0, 1e-5
    seen = view_normals(normals, view((2, 2), (3, 3)))
    assert seen[:, 1].isnan().all()
    assert seen[2, 0].tolist() == [1.0] * 3
    assert seen[2, 2].tolist() == [-1.0] * 3


@pytest.mark.parametrize("index", range(12))
def test_all_quantities_show_the_same_place(index: int) -> None:
    """Each quantity holds the coordinates of its pixels; what is interpolated may be half a pixel off at most."""
    size = (24, 32)
    seen = RandomViews(size, seed=4)(epoch=0, index=index)
    rows, columns = torch.meshgrid(torch.arange(24), torch.arange(32), indexing="ij")
    flat = torch.tensor(1000.0)  # so far away that directions are nearly linear in the coordinates
    vectors = torch.stack([columns.float(), rows.float(), flat.expand(size)])
    here = (slice(None), seen.rows, seen.columns)

    labels = view_labels((rows * 32 + columns)[here[1:]], seen)
    depth = view_depth((rows * 32 + columns + 1.0)[None][here], seen)
    image = view_image((vectors / 32)[here], seen)
    normals = view_normals((vectors / vectors.norm(dim=0))[here], seen)

    torch.testing.assert_close(depth[0] * seen.scale - 1, labels.float(), rtol=1e-5, atol=1e-3)
    sign = -1 if seen.mirrored else 1
    for found in (image[:2] * 32, normals[:2] / normals[2] * 1000 * torch.tensor([sign, 1]).view(2, 1, 1)):
        assert (found[0] - labels % 32).abs().max() <= 0.501
        assert (found[1] - labels // 32).abs().max() <= 0.501
    # The window fills the view, from its first pixel to its last.
    assert labels.min() == seen.rows.start * 32 + seen.columns.start
    assert labels.max() == (seen.rows.stop - 1) * 32 + seen.columns.stop - 1


def test_the_whole_view_shows_a_scene_as_it_is() -> None:
    generator = torch.Generator().manual_seed(0)
    as_it_is = whole((5, 7))
    vectors = torch.rand(3, 5, 7, generator=generator)
    for seen in (view_image, view_normals):
        assert torch.equal(seen(vectors, as_it_is), vectors)
    for seen in (view_depth, view_disparity):
        assert torch.equal(seen(vectors[:1], as_it_is), vectors[:1])
    assert torch.equal(view_labels(torch.arange(35).view(5, 7), as_it_is), torch.arange(35).view(5, 7))


def test_a_view_is_a_function_of_seed_epoch_and_index_only() -> None:
    def drawn(seed: int, epochs: range, indices: range) -> list[View]:
        views = RandomViews((288, 384), seed)
        return [views(epoch, index) for epoch in epochs for index in indices]

    expected = drawn(0, range(1), range(20))
    np.random.seed(1)
    torch.manual_seed(1)
    views = RandomViews((288, 384), 0)
    assert [views(0, index) for index in reversed(range(20))] == expected[::-1]
    for others in (drawn(1, range(1), range(20)), drawn(0, range(1, 2), range(20)), drawn(0, range(1), range(20, 40))):
        assert sum(one == other for one, other in zip(expected, others, strict=True)) <= 2


def test_scales_places_and_mirrors_are_equally_probable_and_windows_lie_in_the_scene() -> None:
    size = (12, 18)
    views = [RandomViews(size, seed=0)(epoch, index) for epoch in range(3) for index in range(1000)]
    assert 0.45 < np.mean([one.mirrored for one in views]) < 0.55
    for scale, window in zip(SCALES, [(12, 18), (10, 15), (8, 12)], strict=True):
        of_scale = [one for one in views if one.scale == scale]
        assert 900 < len(of_scale) < 1100
        for extent, whole_extent, sides in zip(
            window, size, zip(*[(one.rows, one.columns) for one in of_scale], strict=True), strict=True
        ):
            assert {side.stop - side.start for side in sides} == {extent}
            starts = np.bincount([side.start for side in sides])
            places = whole_extent - extent + 1
            assert len(starts) == places
            assert starts.min() > 0.7 * len(of_scale) / places


def test_a_scene_of_one_pixel_has_views() -> None:
    views = [RandomViews((1, 1), seed=0)(0, index) for index in range(20)]
    assert all(one.rows == one.columns == slice(0, 1) for one in views)


# Smaller scenes -----------------------------------------------------------------------------------

SMALLER = View((6, 8), slice(0, 6), slice(0, 8), 0.5, mirrored=False, shown=(3, 4), corner=(2, 1))


@either_way
@pytest.mark.parametrize("corner", [(0, 0), (2, 1), (3, 4)])
def test_a_smaller_scene_stands_in_grey_without_truth_around_it(corner: tuple[int, int], mirrored: bool) -> None:
    smaller = replace(SMALLER, corner=corner, mirrored=mirrored)
    inside = np.zeros((6, 8), bool)
    inside[corner[0] : corner[0] + 3, corner[1] : corner[1] + 4] = True
    generator = torch.Generator().manual_seed(0)
    image, depth = (torch.rand(channels, 6, 8, generator=generator) + 1 for channels in (3, 1))
    labels = torch.arange(48).view(6, 8)
    normals = torch.nn.functional.normalize(torch.randn(3, 6, 8, generator=generator), dim=0)
    expected = {
        "image": (view_image(image, smaller), bilinear(image.numpy(), (3, 4)), 0.5),
        "labels": (view_labels(labels, smaller)[None], nearest(labels[None].numpy(), (3, 4)), -1),
        "depth": (view_depth(depth, smaller), nearest(depth.numpy(), (3, 4)) / 0.5, np.nan),
        "disparity": (view_disparity(depth, smaller), nearest(depth.numpy(), (3, 4)) * 0.5, np.nan),
    }
    for name, (seen, inner, fill) in expected.items():
        frame = np.full((len(inner), 6, 8), fill)
        frame[:, inside] = inner.reshape(len(inner), -1)
        np.testing.assert_allclose(seen.numpy(), frame[..., :: -1 if mirrored else 1], atol=1e-6, err_msg=name)
    seen = view_normals(normals, smaller).numpy()[..., :: -1 if mirrored else 1]
    mean = bilinear(normals.numpy(), (3, 4)) * np.array([-1 if mirrored else 1, 1, 1])[:, None, None]
    assert np.isnan(seen[:, ~inside]).all()
    unit = mean / np.linalg.norm(mean, axis=0)
    np.testing.assert_allclose(seen[:, inside], unit.reshape(3, -1), atol=1e-4)


def test_random_views_below_1_show_the_whole_scene_somewhere_in_the_frame() -> None:
    views = [RandomViews((9, 12), 0, scales=(0.5, 0.75, 2.0))(0, index) for index in range(60)]
    assert {view.scale for view in views} == {0.5, 0.75, 2.0}
    for seen in views:
        if seen.scale < 1:
            assert (seen.rows, seen.columns) == (slice(0, 9), slice(0, 12))
            assert seen.extent == (int(9 * seen.scale), int(12 * seen.scale))
            assert all(0 <= c <= s - e for c, s, e in zip(seen.corner, seen.size, seen.extent, strict=True))
        else:
            assert (seen.shown, seen.corner) == (None, (0, 0))
    assert len({seen.corner for seen in views}) > 10


def test_scales_from_1_on_are_drawn_as_without_smaller_ones() -> None:
    for index in range(20):
        drawn = RandomViews((9, 12), 3)(1, index)
        assert drawn == RandomViews((9, 12), 3, SCALES)(1, index)
        assert drawn.scale in SCALES and drawn.shown is None
