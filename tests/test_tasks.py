import pickle
import subprocess
import sys

import pytest
import torch
from torch import nn
from torchmetrics import Metric
from torchmetrics.regression import MeanAbsoluteError

from recon.tasks import Task, classification


@pytest.mark.parametrize("name", ["digit", "seg", "_", "task_2", "größe"])
def test_a_task_of_an_allowed_name_can_hold_a_head(name: str) -> None:
    task = classification(name, 3)
    assert list(nn.ModuleDict({task.name: nn.Linear(1, task.outputs)})) == [name]


@pytest.mark.parametrize("name", ["keys", "pop", "items", "type", "float", "train", "training", "forward", "half"])
def test_a_name_that_module_dict_uses_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"task name '{name}' is one that nn.ModuleDict uses itself"):
        classification(name, 3)


@pytest.mark.parametrize("name", ["", "a.b", "a b", "1st", "a-b"])
def test_a_name_that_is_no_identifier_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="not an identifier"):
        classification(name, 3)


def test_classification_needs_two_classes_and_a_head_one_output() -> None:
    with pytest.raises(ValueError, match="classes=1"):
        classification("digit", 1)
    with pytest.raises(ValueError, match="outputs=0"):
        Task("digit", nn.functional.mse_loss, dict, 0)


def test_classification_has_cross_entropy_as_its_loss() -> None:
    logits, labels = torch.randn(5, 4), torch.tensor([0, 3, 1, 1, 2])
    loss = classification("digit", 4).loss(logits, labels)
    torch.testing.assert_close(loss, -logits.log_softmax(1)[torch.arange(5), labels].mean())


def test_accuracy_is_the_fraction_of_all_samples_however_they_are_batched_and_however_rare_their_class() -> None:
    predicted = torch.tensor([0, 0, 0, 0, 1, 2, 2])
    labels = torch.tensor([0, 0, 0, 0, 2, 2, 1])
    accuracy = classification("digit", 3).metrics()["accuracy"]
    for part in (slice(0, 5), slice(5, 6), slice(6, 7)):
        accuracy.update(nn.functional.one_hot(predicted[part], 3).float(), labels[part])
    assert accuracy.compute().item() == pytest.approx(5 / 7)


def test_metrics_are_fresh_at_each_call() -> None:
    task = classification("digit", 3)
    assert task.metrics()["accuracy"] is not task.metrics()["accuracy"]


def test_each_metric_says_which_direction_is_better() -> None:
    assert classification("digit", 3).higher_is_better == {"accuracy": True}
    depth = Task("depth", nn.functional.l1_loss, lambda: {"error": MeanAbsoluteError()}, 1)
    assert depth.higher_is_better == {"error": False}


def test_a_metric_without_a_direction_is_an_error() -> None:
    class Undecided(Metric):
        def update(self) -> None: ...

        def compute(self) -> None: ...

    task = Task("depth", nn.functional.l1_loss, lambda: {"oddity": Undecided()}, 1)
    with pytest.raises(ValueError, match=r"metric 'oddity' of task 'depth' \(Undecided\)"):
        _ = task.higher_is_better


def test_a_classification_task_pickles() -> None:
    task = classification("digit", 3)
    assert pickle.loads(pickle.dumps(task)).higher_is_better == {"accuracy": True}


def test_tasks_can_be_defined_without_loading_torchmetrics() -> None:
    code = "import recon.tasks, sys; recon.tasks.classification('digit', 3); sys.exit('torchmetrics' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
