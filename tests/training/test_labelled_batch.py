"""The tasks of a batch that have labels, and how many: of targets that are absent, partly missing, or masked."""

import math
from typing import Any

import pytest
import torch
from torch import nn

from recon.tasks.per_image import classification
from recon.tasks.per_pixel import depth
from recon.tasks.task import Task
from recon.training.labelled_batch import labelled_batch

NAMES = ["digit", "depth", "age"]
TASKS = [classification("digit", 10), depth("depth"), Task("age", nn.functional.l1_loss, dict, 1)]
X = torch.zeros(3, 2)
DIGITS = torch.tensor([4, -1, 2])
DEPTHS = torch.tensor([1.0, math.nan, 2.0, 3.0]).view(1, 1, 2, 2).expand(3, 1, 2, 2)
AGES = torch.tensor([[30.0], [math.nan], [40.0]])


def counts(batch: Any, tasks: list[Task] = TASKS) -> dict[str, int]:
    found = labelled_batch(batch, tasks, NAMES)
    assert list(found.counts) == list(found.targets)
    return dict(found.counts)


def test_counts_are_of_valid_items_in_the_order_of_the_tasks() -> None:
    found = counts((X, {"age": AGES, "digit": DIGITS, "depth": DEPTHS}))
    assert list(found.items()) == [("digit", 2), ("depth", 9), ("age", 2)]


@pytest.mark.parametrize(
    "targets",
    [
        {"digit": DIGITS},
        {"digit": DIGITS, "depth": None, "age": None},
        {"digit": DIGITS, "depth": DEPTHS * math.nan, "age": AGES[1:2]},
        {"digit": DIGITS, "depth": {"target": DEPTHS, "mask": torch.zeros(3, dtype=torch.bool)}},
    ],
    ids=["absent", "None", "nothing valid", "masked"],
)
def test_tasks_without_a_valid_item_are_left_out(targets: dict[str, Any]) -> None:
    assert counts((X, targets)) == {"digit": 2}
    assert counts({task: (X, target) for task, target in targets.items()}) == {"digit": 2}
    assert counts({task: None if target is None else (X, target) for task, target in targets.items()}) == {"digit": 2}


def test_no_label_at_all_is_no_task() -> None:
    assert counts((X, {})) == {}
    assert counts((X, {"digit": torch.tensor([-1])})) == {}


def test_inputs_of_each_tasks_own_keep_apart() -> None:
    photos, sketches = torch.ones(3, 1), torch.zeros(3, 1)
    found = labelled_batch({"digit": (photos, DIGITS), "age": [sketches, AGES]}, TASKS, NAMES)
    assert found.per_task
    assert found.inputs["digit"] is photos
    assert found.inputs["age"] is sketches
    assert found.counts == {"digit": 2, "age": 2}
    prediction, target = found.select("age", torch.arange(3.0))
    assert prediction.tolist() == [0, 2]
    assert target.tolist() == [[30], [40]]


def test_targets_of_tasks_that_are_not_trained_are_passed_over() -> None:
    assert counts((X, {"digit": DIGITS, "age": AGES}), TASKS[:1]) == {"digit": 2}
    assert counts({"digit": (X, DIGITS), "age": (X, AGES)}, TASKS[:1]) == {"digit": 2}
    assert counts({"age": (X, AGES), "digit": None}, TASKS[:1]) == {}


def test_an_unknown_task_of_a_batch_names_the_nearest() -> None:
    for batch in ({"digits": (X, DIGITS), "age": (X, AGES)}, {"digits": None, "age": (X, AGES)}):
        with pytest.raises(ValueError, match="unknown task 'digits' in the batch; nearest: 'digit'"):
            counts(batch)


def test_a_misspelt_name_of_a_missing_target_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown task 'digits' in the batch; nearest: 'digit'"):
        counts((X, {"digits": DIGITS, "age": AGES}))
    assert counts((X, {"digits": DIGITS, "digit": DIGITS, "depth": None, "age": None})) == {"digit": 2}
    assert counts((X, {"age": AGES}), TASKS[:1]) == {}


def test_other_unknown_names_beside_a_missing_target_are_warned_of() -> None:
    with pytest.warns(UserWarning, match=r"no targets of \['depth', 'age'\], and targets of the unknown names \['cam"):
        assert counts((X, {"digit": DIGITS, "camera": 3})) == {"digit": 2}


def test_a_mask_that_does_not_fit_names_its_task() -> None:
    target = {"target": AGES, "mask": torch.ones(2, dtype=torch.bool)}
    with pytest.raises(ValueError, match=r"number of labels of task 'age' cannot be computed: a mask of shape \(2,\)"):
        counts((X, {"age": target}))
