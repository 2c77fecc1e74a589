import math
import pickle
import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.regression import MeanAbsoluteError

from recon.tasks.losses import valid_items
from recon.tasks.per_image import classification
from recon.tasks.per_pixel import depth, normals, segmentation
from recon.tasks.task import Task


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
    code = (
        "import sys; from recon.tasks import classification, depth, normals, segmentation;"
        "classification('digit', 3), segmentation('seg', 3), depth('depth', 'per_batch'), normals('normals');"
        "sys.exit('torchmetrics' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


DENSE = [segmentation("segmentation", 13), depth("depth"), normals("normals")]
each_dense_task = pytest.mark.parametrize("task", DENSE, ids=lambda task: task.name)


def dense_batch(task: Task) -> tuple[Tensor, Tensor]:
    """Predictions (2, outputs, 4, 5) and a target without truth in the first row."""
    generator = torch.Generator().manual_seed(0)
    prediction = torch.randn(2, task.outputs, 4, 5, generator=generator)
    if task.name == "segmentation":
        target = torch.randint(13, (2, 4, 5), generator=generator)
        target[:, 0] = -1
    else:
        target = nn.functional.normalize(torch.rand(2, task.outputs, 4, 5, generator=generator), dim=1)
        target[:, :, 0] = math.nan
    return prediction, target


def test_tasks_of_dense_prediction_name_their_metrics_and_directions() -> None:
    assert [task.outputs for task in DENSE] == [13, 1, 3]
    assert [task.higher_is_better for task in DENSE] == [
        {"miou": True, "pixel_accuracy": True},
        {"absolute_error": False, "relative_error": False},
        {"mean_angle": False, "median_angle": False, "within_11_25": True, "within_22_5": True, "within_30": True},
    ]


@each_dense_task
def test_a_task_of_dense_prediction_has_a_loss_that_learns_from_what_is_known(task: Task) -> None:
    prediction, target = dense_batch(task)
    loss = task.loss(prediction.requires_grad_(), target)
    (gradient,) = torch.autograd.grad(loss, prediction)
    assert (gradient[:, :, 0] == 0).all()
    assert task.loss((prediction - 1e-2 * gradient).detach(), target) < loss


@each_dense_task
def test_an_estimate_has_the_form_of_the_target_and_can_be_painted_beside_it(task: Task) -> None:
    prediction, target = dense_batch(task)
    assert task.estimate is not None
    assert task.paint is not None
    estimate = task.estimate(prediction)
    assert estimate.shape == target.shape
    assert estimate.dtype == target.dtype
    for values in (estimate[0], target[0]):
        picture = task.paint(values, target[0])
        assert picture.shape == (3, 4, 5)
        assert picture.dtype == torch.float32
        assert 0 <= picture.min() <= picture.max() <= 1
    assert torch.equal(task.paint(target[0], target[0]).sum(0) > 0, valid_items(target)[0])


def test_estimates_are_the_likeliest_class_the_value_and_the_direction() -> None:
    (labels, _), (values, _), (vectors, _) = (dense_batch(task) for task in DENSE)
    seg, metres, directions = DENSE
    assert seg.estimate and metres.estimate and directions.estimate
    assert torch.equal(labels.gather(1, seg.estimate(labels)[:, None])[:, 0], labels.amax(1))
    assert torch.equal(metres.estimate(values), values)
    unit = directions.estimate(vectors)
    torch.testing.assert_close(unit.norm(dim=1), torch.ones(2, 4, 5))
    torch.testing.assert_close(unit * vectors.norm(dim=1, keepdim=True), vectors)


@each_dense_task
def test_a_task_of_dense_prediction_pickles(task: Task) -> None:
    prediction, target = dense_batch(task)
    copy = pickle.loads(pickle.dumps(task))
    assert copy.higher_is_better == task.higher_is_better
    torch.testing.assert_close(copy.loss(prediction, target), task.loss(prediction, target))


def test_segmentation_needs_two_classes() -> None:
    with pytest.raises(ValueError, match="task 'seg' has classes=1; segmentation needs at least two"):
        segmentation("seg", 1)


def test_an_unknown_aggregation_is_an_error_that_says_what_there_is() -> None:
    with pytest.raises(ValueError, match=r"unknown aggregation 'per-batch'.*'per_batch'"):
        depth("depth", aggregation="per-batch")  # type: ignore[arg-type]
