import re

import pytest

from recon.data.celeba.attributes import ATTRIBUTES, TASKS, columns_of
from recon.tasks.names import check_task_names


def test_there_are_40_tasks_with_names_that_tasks_may_have() -> None:
    assert len(ATTRIBUTES) == len(check_task_names(TASKS)) == 40
    assert sum(name != task for name, task in zip(ATTRIBUTES, TASKS, strict=True)) == 1


def test_columns_are_those_of_the_file_in_the_order_asked_for() -> None:
    assert columns_of(["Young", "Five_o_Clock_Shadow"]) == {"Young": 39, "Five_o_Clock_Shadow": 0}
    assert columns_of(ATTRIBUTES) == {task: column for column, task in enumerate(TASKS)}


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        (["Smilling"], "unknown attribute 'Smilling' in CelebA; nearest: 'Smiling'"),
        (["Male", "Male"], "'Male' is given more than once"),
        ([], "tasks is empty; give some of the 40 attributes"),
        ("Male", "tasks is 'Male'; give a list"),
    ],
)
def test_what_is_no_selection_is_refused(tasks: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        columns_of(tasks)
