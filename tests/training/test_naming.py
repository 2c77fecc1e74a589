import pytest
import torch
from torch.nn.functional import cross_entropy

from recon.training.naming import naming


def test_a_label_out_of_bounds_names_the_task_and_the_range() -> None:
    logits, labels = torch.zeros(3, 10), torch.tensor([0, 10, 2])
    expected = (
        r"the loss of task 'digit' cannot be computed: Target 10 is out of bounds\. "
        r"\(prediction: float32 of shape \(3, 10\); target: int64 of shape \(3,\), values from 0 to 10\)"
    )
    with pytest.raises(ValueError, match=expected), naming("the loss of task 'digit'", logits, labels):
        cross_entropy(logits, labels)


def test_shapes_that_do_not_fit_are_told() -> None:
    logits, labels = torch.zeros(4, 10), torch.tensor([0, 1])
    expected = r"cannot be computed: .*\(4, 10\); target: int64 of shape \(2,\), values from 0 to 1\)"
    with pytest.raises(ValueError, match=expected), naming("it", logits, labels):
        cross_entropy(logits, labels)


def test_errors_of_another_kind_pass() -> None:
    for error in (torch.OutOfMemoryError("memory"), KeyError("a")):
        with pytest.raises(type(error)) as caught, naming("it", None, None):
            raise error
        assert caught.value is error


def test_values_that_are_no_tensors_or_have_no_values_are_told_too() -> None:
    with (
        pytest.raises(ValueError, match=r"prediction: a dict; target: bool of shape \(0,\)\)"),
        naming("it", {}, torch.zeros(0).bool()),
    ):
        raise TypeError("wrong")
