import pytest

from recon.models import linear_heads
from recon.tasks.per_image import classification


def test_each_task_gets_a_linear_layer_of_its_outputs() -> None:
    heads = linear_heads(5, [classification("digit", 10), classification("letter", 26)])
    assert {name: tuple(head.weight.shape) for name, head in heads.items()} == {"digit": (10, 5), "letter": (26, 5)}


def test_two_tasks_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="two tasks are named 'digit'"):
        linear_heads(5, [classification("digit", 10), classification("digit", 3)])
