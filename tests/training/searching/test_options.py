"""The settings of a search: the published ones by default, and impossible ones refused."""

from typing import Any

import pytest

from recon.models import LeNet
from recon.training.searching.options import BMTASOptions


def test_defaults_are_those_of_the_authors_code() -> None:
    options = BMTASOptions(stages=["conv1"])
    assert (options.resource_weight, options.temperatures, options.warm_up) == (0.05, (5.0, 0.1), 1 / 20)
    assert (options.share, options.lr, options.weight_decay) == (0.2, 0.01, 5e-5)
    assert len(options.network(LeNet(), ["a", "b", "c"]).backbone.conv1.copies) == 3  # type: ignore[union-attr,arg-type]


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"share": 0.0}, "share is 0.0; it must be a part of the training samples"),
        ({"share": 1.0}, "share is 1.0"),
        ({"resource_weight": -1.0}, "resource_weight is -1.0; it must be 0 or more"),
        ({"weight_decay": float("nan")}, "weight_decay is nan"),
        ({"lr": 0.0}, "lr is 0.0; it must be positive"),
        ({"copies": 1}, "copies is 1, which leaves tasks nothing to choose"),
        ({"temperatures": (1.0, 2.0)}, "which fall and stay > 0"),
        ({"warm_up": -0.1}, "warm_up is -0.1"),
    ],
)
def test_numbers_out_of_range_are_refused(given: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        BMTASOptions(["conv1"], **given)


def test_a_name_for_stages_and_a_single_task_are_refused() -> None:
    with pytest.raises(ValueError, match=r"give a list of names: \['conv1'\]"):
        BMTASOptions("conv1").network(LeNet(), ["a", "b"])
    with pytest.raises(ValueError, match="needs two tasks or more, and there is a"):
        BMTASOptions(["conv1"]).network(LeNet(), ["a"])
