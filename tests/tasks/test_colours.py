import math
from itertools import pairwise

import pytest
import torch

from recon.tasks.colours import _DEUTERANOPIA as DEUTERANOPIA
from recon.tasks.colours import _PROTANOPIA as PROTANOPIA
from recon.tasks.colours import (
    Scale,
    _cielab,
    class_colours,
    depth_colours,
    depth_scale,
    label_legend,
    normal_legend,
    paint_depths,
    paint_labels,
    paint_normals,
)


@pytest.mark.parametrize("classes", [2, 13, 19, 40, 500])
def test_every_class_has_a_colour_of_its_own_and_none_is_black(classes: int) -> None:
    colours = class_colours(classes)
    assert colours.shape == (classes, 3)
    assert colours.min() >= 0
    assert colours.max() <= 1
    assert len({tuple(colour) for colour in [[0.0, 0.0, 0.0], *colours.tolist()]}) == classes + 1


def test_colours_of_a_few_classes_lie_far_apart() -> None:
    colours = torch.cat([torch.zeros(1, 3), class_colours(19)])
    assert torch.pdist(colours).min() > 0.15


def test_the_first_classes_have_the_colours_of_okabe_and_ito() -> None:
    assert [tuple(round(255 * part) for part in colour) for colour in class_colours(2).tolist()] == [
        (0, 114, 178),
        (230, 159, 0),
    ]
    torch.testing.assert_close(class_colours(13)[:7], class_colours(7))


@pytest.mark.parametrize("matrix", [PROTANOPIA, DEUTERANOPIA], ids=["protanope", "deuteranope"])
def test_classes_are_told_apart_without_red_or_green_cones(matrix: list[list[float]]) -> None:
    """With 13 classes; colours chosen for full vision alone come as near as 1.5 in CIELAB to a protanope."""
    colours = torch.cat([torch.zeros(1, 3), class_colours(13)]).double()
    linear = torch.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    seen = (linear @ torch.tensor(matrix, dtype=torch.float64).T).clamp(0, 1)
    assert torch.pdist(_cielab(seen)).min() > 8


def test_keys_say_what_the_colours_mean() -> None:
    truth = torch.tensor([[[2.0, 4.0, math.nan]]])
    assert depth_scale(truth) == Scale(2.0, 4.0)
    assert depth_scale(torch.full((1, 2, 2), math.nan)) is None
    colours = paint_depths(truth, truth)[:, 0, :2].T
    torch.testing.assert_close(depth_colours(2), colours)
    legend = label_legend(truth, names=("a", "b"))
    assert legend is not None
    assert legend.names == ("a", "b")
    assert torch.equal(legend.colours, class_colours(2))
    assert label_legend(truth, names=[str(number) for number in range(41)]) is None
    axes = torch.eye(3).T[:, None]
    torch.testing.assert_close(normal_legend(truth).colours.T, paint_normals(axes, axes)[:, 0])


def test_a_class_has_the_same_colour_in_every_picture_and_no_class_is_black() -> None:
    labels = torch.tensor([[0, 1, -1], [2, 1, 0]])
    picture = paint_labels(labels, labels, classes=3)
    assert picture.shape == (3, 2, 3)
    assert (picture[:, 0, 2] == 0).all()
    assert (picture[:, 0, 1] == picture[:, 1, 1]).all()
    torch.testing.assert_close(picture[:, 1, 0], class_colours(3)[2])


def test_depths_become_brighter_over_the_range_of_the_truth() -> None:
    truth = torch.tensor([[[2.0, 4.0, math.nan]]])
    picture = paint_depths(torch.tensor([[[1.0, 2.0, 2.5, 3.0, 3.5, 4.0, 9.0]]]), truth)
    assert picture.shape == (3, 1, 7)
    brightness = (torch.tensor([0.2126, 0.7152, 0.0722]) @ picture[:, 0]).tolist()
    assert brightness[0] == brightness[1]
    assert brightness[5] == brightness[6]
    assert all(low < high for low, high in pairwise(brightness[1:6]))


def test_a_depth_without_value_is_black_and_one_range_serves_truth_and_estimate() -> None:
    truth = torch.tensor([[[2.0, 4.0, math.nan]]])
    picture = paint_depths(truth, truth)
    assert (picture[:, 0, 2] == 0).all()
    torch.testing.assert_close(picture[:, 0, :2], paint_depths(torch.tensor([[[2.0, 4.0]]]), truth)[:, 0])


def test_depths_of_one_value_and_depths_without_truth_have_a_picture() -> None:
    empty = torch.full((1, 2, 2), math.nan)
    assert (paint_depths(empty, empty) == 0).all()
    assert paint_depths(torch.tensor([[[1.0, 2.0]]]), empty).unique().numel() > 3
    flat = torch.full((1, 2, 2), 3.0)
    assert paint_depths(flat, flat).isfinite().all()


def test_normals_are_painted_as_the_field_does_and_black_without_value() -> None:
    values = torch.tensor([[1.0, 0.0, math.nan], [0.0, -1.0, math.nan], [0.0, 0.0, math.nan]])[:, None]
    expected = torch.tensor([[1.0, 0.5, 0.0], [0.5, 0.0, 0.0], [0.5, 0.5, 0.0]])[:, None]
    torch.testing.assert_close(paint_normals(values, values), expected)
