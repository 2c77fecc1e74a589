"""The width of a backbone in a plan's configuration."""

from typing import Any

import pytest

from recon.experiments.fit import Fit
from recon.experiments.width import Width


def fit_of(name: str, **arguments: Any) -> Fit:
    return Fit({"model": {"backbone": {"class_path": f"recon.models.{name}", "init_args": arguments}}})


def arguments_of(fit: Fit) -> dict[str, Any]:
    arguments: dict[str, Any] = fit.configuration["model"]["backbone"]["init_args"]
    return arguments


def square(fit: Fit) -> int:
    """A measure that grows with the width, as parameters do."""
    return int(arguments_of(fit)["width"] ** 2)


@pytest.mark.parametrize(
    ("wanted", "nearest"), [(0, 5), (25, 5), (30, 5), (31, 6), (36, 6), (37, 6), (99, 10), (10_000, 100), (10_099, 100)]
)
def test_the_nearest_width_is_found_above_or_below_but_never_the_plain_one(wanted: int, nearest: int) -> None:
    width = Width(fit_of("ResNet18", width=4), "width")
    assert arguments_of(width.nearest(square, wanted)) == {"width": nearest}


def test_an_argument_that_makes_nothing_larger_is_no_width() -> None:
    with pytest.raises(ValueError, match=r"with width: 48 costs no more than with 4, so there is no wider network"):
        Width(fit_of("ResNet18", width=4), "width").nearest(lambda fit: 7, wanted=8)
    in_steps = Width(fit_of("ResNet18", width=4), "width")  # as architectures that round their widths
    assert arguments_of(in_steps.nearest(lambda fit: square(fit) // 64, wanted=4)) == {"width": 16}


def test_a_default_is_a_width_too_and_other_arguments_stay() -> None:
    width = Width(fit_of("ResNet18", in_channels=3), "width")
    assert width.number == 64
    assert arguments_of(width.fit_of(65)) == {"in_channels": 3, "width": 65}
    assert arguments_of(width.fit) == {"in_channels": 3}


def test_several_widths_are_scaled_alike() -> None:
    width = Width(fit_of("MLP", inputs=3, widths=[128, 64, 1]), "widths")
    assert width.number == 128
    assert arguments_of(width.fit_of(192))["widths"] == [192, 96, 2]


def test_a_path_leads_to_the_backbone_inside_an_architecture() -> None:
    inner = {"class_path": "recon.models.ResNet18", "init_args": {"in_channels": 3}}
    width = Width(fit_of("CrossStitch", backbone=inner), "backbone.init_args.width")
    assert width.number == 64
    assert arguments_of(width.fit_of(70))["backbone"]["init_args"] == {"in_channels": 3, "width": 70}


@pytest.mark.parametrize(
    ("fit", "argument", "message"),
    [
        (fit_of("LeNet"), "width", "recon.models.LeNet has no argument 'width', so there is no wider network; the key"),
        (fit_of("MLP", inputs=3), "widths", "recon.models.MLP has no argument 'widths'"),
        (fit_of("MobileNetV2"), "width_multiplier", r"has width_multiplier: 1\.0, which is no width; .* whole number"),
        (fit_of("MLP", inputs=3, widths=[]), "widths", r"has widths: \[\], which is no width"),
    ],
)
def test_a_backbone_without_such_a_width_is_refused(fit: Fit, argument: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Width(fit, argument)
