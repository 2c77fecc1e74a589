import math

import pytest
import torch

from recon.methods import Tchebycheff, create_method
from recon.methods.per_task import check_numbers, numbers_like, preference_like


def test_numbers_stand_in_task_order_in_the_precision_of_the_losses() -> None:
    losses = torch.ones(3, dtype=torch.float64)
    assert numbers_like(losses, "mine", "bounds", [0.1, 0, 2], default=0).tolist() == [0.1, 0, 2]
    assert numbers_like(losses, "mine", "bounds", None, default=-0.5).tolist() == [-0.5] * 3
    assert preference_like(losses, "mine", None).tolist() == [1 / 3] * 3


def test_numbers_for_another_number_of_tasks_are_refused() -> None:
    with pytest.raises(ValueError, match="tchebycheff: ideal holds 2 numbers for 3 tasks; give one number a task"):
        Tchebycheff(ideal=[0, 0]).loss_weights(torch.ones(3))
    with pytest.raises(ValueError, match="config: preference holds 2 numbers for 3 tasks"):
        create_method("config", preference=[1, 2]).combine(torch.eye(3))


@pytest.mark.parametrize("bad", [-1.0, float("nan"), float("inf"), "1"])
def test_a_number_out_of_range_is_refused_by_its_place(bad: float) -> None:
    with pytest.raises(ValueError, match=r"mine: bounds\[1\] must be a finite number >= 0, got"):
        check_numbers("mine", "bounds", [1.0, bad], low=0)
    assert check_numbers("mine", "bounds", None, low=0) is None
    assert check_numbers("mine", "bounds", [-7], low=-math.inf) == [-7.0]
