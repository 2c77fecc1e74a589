import math

import numpy as np
import pytest
import torch

from recon.methods import GramianMethod, LossMethod, Tchebycheff, create_method, list_methods
from recon.methods.base.per_task import PerTaskMethod, check_numbers, numbers_like


def test_numbers_stand_in_task_order_in_the_precision_of_the_losses() -> None:
    losses = torch.ones(3, dtype=torch.float64)
    assert numbers_like(losses, [0.1, 0, 2], default=0).tolist() == [0.1, 0, 2]
    assert numbers_like(losses, None, default=-0.5).tolist() == [-0.5] * 3


def test_numbers_for_another_number_of_tasks_are_refused() -> None:
    with pytest.raises(ValueError, match="tchebycheff: ideal holds 2 numbers for 3 tasks; give one number a task"):
        Tchebycheff(ideal=[0, 0]).loss_weights(torch.ones(3))


PER_TASK = [(name, each) for name in list_methods(PerTaskMethod) for each in type(create_method(name)).per_task]


def test_every_preference_is_checked() -> None:
    assert {name for name in list_methods() if hasattr(create_method(name), "preference")} <= dict(PER_TASK).keys()


@pytest.mark.parametrize(("name", "hyperparameter"), PER_TASK)
def test_another_number_of_tasks_is_refused_before_the_first_step_and_in_it(name: str, hyperparameter: str) -> None:
    message = f"{name}: {hyperparameter} holds 2 numbers for 3 tasks; give one number a task"
    method = create_method(name, **{hyperparameter: [1, 2]})
    with pytest.raises(ValueError, match=message):
        method.bind(3)
    with pytest.raises(ValueError, match=message):
        method.combine(torch.eye(3), torch.ones(3))
    assert isinstance(method, GramianMethod | LossMethod)
    assert method.combine(torch.eye(2), torch.tensor([3.0, 3.0])).shape == (2,)


def test_another_number_of_tasks_is_refused_by_the_name_of_a_class_that_is_not_registered() -> None:
    class Mine(Tchebycheff):
        pass

    with pytest.raises(ValueError, match="Mine: preference holds 2 numbers for 3 tasks"):
        Mine(preference=[1, 1]).bind(3)


@pytest.mark.parametrize("bad", [-1.0, float("nan"), float("inf"), "1"])
def test_a_number_out_of_range_is_refused_by_its_place(bad: float) -> None:
    with pytest.raises(ValueError, match=r"mine: bounds\[1\] must be a finite number >= 0, got"):
        check_numbers("mine", "bounds", [1.0, bad], low=0)
    assert check_numbers("mine", "bounds", None, low=0) is None
    assert check_numbers("mine", "bounds", [-7], low=-math.inf) == [-7.0]


@pytest.mark.parametrize("values", [(1, 2.5), torch.tensor([1, 2.5]), np.array([1, 2.5]), [np.float32(1), 2.5]])
def test_lists_tuples_tensors_and_arrays_are_accepted(values: object) -> None:
    assert check_numbers("mine", "bounds", values, low=0) == [1.0, 2.5]  # type: ignore[arg-type]


@pytest.mark.parametrize("values", [0.5, "12", b"12", {1.0, 2.0}, {"a": 1.0}, torch.tensor(0.5), np.float64(0.5)])
def test_what_is_no_list_of_numbers_is_refused(values: object) -> None:
    with pytest.raises(ValueError, match="mine: bounds must be a list of one number a task, got"):
        check_numbers("mine", "bounds", values, low=0)  # type: ignore[arg-type]


def test_a_matrix_is_refused() -> None:
    with pytest.raises(ValueError, match=r"mine: bounds\[0\] must be a finite number >= 0, got \[1.0, 2.0\]"):
        check_numbers("mine", "bounds", torch.tensor([[1.0, 2.0]]), low=0)


def test_where_every_number_is_allowed_the_error_names_no_least() -> None:
    with pytest.raises(ValueError, match=r"mine: bounds\[0\] must be a finite number, got nan"):
        check_numbers("mine", "bounds", [math.nan], low=-math.inf)
