"""Missing truth: counts of valid items, masks, and losses of the valid part alone, with their gradients."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from recon.tasks.labelled import labelled, valid_samples
from recon.tasks.losses import labelled_cross_entropy
from recon.tasks.per_image import classification
from recon.tasks.per_pixel import depth, normals, segmentation
from recon.tasks.task import Task

NAN = math.nan


def own(loss: Any = nn.functional.mse_loss, **options: Any) -> Task:
    return Task("own", loss, dict, 1, **options)


# Counts -------------------------------------------------------------------------------------------


def test_classification_counts_samples_with_a_label() -> None:
    task = classification("digit", 10)
    assert task.count(torch.tensor([3, -1, 0, -1])) == 2
    assert task.count(torch.tensor([-1, -1])) == 0
    assert task.count(torch.tensor([[0.2, 0.8], [NAN, NAN]])) == 1, "probabilities"


def test_dense_tasks_count_pixels() -> None:
    labels = torch.tensor([[[0, -1, 2]], [[-1, -1, -1]]])
    assert segmentation("seg", 3).count(labels) == 2
    values = torch.tensor([[[[0.5, NAN, 2]]], [[[NAN, NAN, NAN]]]])
    assert depth("depth").count(values) == 2
    assert normals("normals").count(values.expand(2, 3, 1, 3)) == 2
    vectors = torch.ones(1, 3, 1, 2)
    vectors[0, 1, 0, 0] = NAN
    assert normals("normals").count(vectors) == 1, "a vector needs all of its parts"


def test_a_task_of_ones_own_counts_samples_with_a_finite_entry() -> None:
    assert own().count(torch.tensor([1.0, NAN, math.inf])) == 1
    assert own().count(torch.tensor([[1.0, NAN], [NAN, NAN], [0.0, 0.0]])) == 2
    assert own().count(torch.tensor(2.0)) == 1
    assert own().count(torch.tensor(NAN)) == 0


@pytest.mark.parametrize(
    ("target", "count"),
    [
        (torch.tensor([-1, 1, -1]), 3),
        (torch.tensor([True, False]), 2),
        ({"boxes": torch.zeros(4, 2), "kinds": torch.zeros(4)}, 4),
        ([{"boxes": 1}, {"boxes": 2}], 2),
        ("one", 1),
        ({}, 1),
    ],
    ids=["integers", "bools", "mapping", "list", "other", "empty"],
)
def test_targets_that_cannot_say_what_is_missing_count_all_samples(target: Any, count: int) -> None:
    assert own().count(target) == count


def test_a_task_may_say_itself_which_items_are_valid() -> None:
    assert own(valid=torch.isfinite).count(torch.tensor([[1.0, NAN], [NAN, 4.0]])) == 2
    assert own(valid=lambda target: target > 0).count(torch.tensor([0, 5, 6])) == 2


@pytest.mark.parametrize("task", [classification("digit", 3), depth("depth"), own()], ids=lambda task: task.name)
def test_no_target_is_no_item(task: Task) -> None:
    assert task.count(None) == 0


# Masks --------------------------------------------------------------------------------------------


def test_a_mask_of_samples_leaves_the_others_out() -> None:
    mask = torch.tensor([True, False, True])
    for task, values in ((classification("digit", 9), torch.tensor([4, 5, -1])), (own(), torch.tensor([4.0, 5, NAN]))):
        target = {"target": values, "mask": mask}
        assert task.count(target) == 1
        prediction, kept = task.labelled(target).select(torch.arange(3.0), count=1)
        assert prediction.tolist() == [0]
        assert kept.tolist() == [4]


@pytest.mark.parametrize("shape", [(2,), (2, 3, 4), (2, 1, 3, 4), (2, 3, 3, 4)])
def test_a_mask_of_a_dense_target_makes_gaps(shape: tuple[int, ...]) -> None:
    target = torch.rand(2, 3, 3, 4)
    mask = torch.zeros(shape, dtype=torch.bool)
    mask[0] = True
    found = normals("normals").labelled({"target": target, "mask": mask})
    assert found.count == 12
    assert torch.equal(found.target[0], target[0])
    assert found.target[1].isnan().all()
    assert found.samples is None


def test_a_mask_of_labels_of_pixels_makes_them_unlabelled() -> None:
    mask = torch.tensor([[[True, False], [True, False]]])
    found = segmentation("seg", 3).labelled({"target": torch.tensor([[[0, 1], [-1, 2]]]), "mask": mask})
    assert found.target.tolist() == [[[0, -1], [-1, -1]]]
    assert found.count == 1


def test_a_mask_of_every_entry_serves_a_task_of_ones_own() -> None:
    target = {"target": torch.ones(2, 2), "mask": torch.tensor([[True, False], [False, False]])}
    found = own().labelled(target)
    assert found.count == 1
    torch.testing.assert_close(found.target, torch.tensor([[1, NAN], [NAN, NAN]]), equal_nan=True)
    assert own(valid=torch.isfinite).count(target) == 1


@pytest.mark.parametrize(
    ("target", "mask", "message"),
    [
        (torch.zeros(3), torch.ones(2).bool(), r"a mask of shape \(2,\) does not go with a target of shape \(3,\)"),
        (torch.zeros(3), torch.tensor(True), r"a mask of shape \(\) does not go with"),
        (torch.zeros(2, 4, 3), torch.ones(2, 4).bool(), r"a mask of shape \(2, 4\) does not go"),
        (torch.zeros(3), torch.ones(3), "the mask is of type float32; give a bool tensor, True where there is truth"),
        (torch.zeros(3), [True] * 3, "the mask is of type list; give a bool tensor"),
        ([1, 2], torch.ones(2).bool(), "a mask goes with a tensor, and the target is a list"),
        (torch.zeros(2, 2).byte(), torch.ones(2, 2).bool(), "the target is uint8, which has no -1 for what a mask"),
    ],
)
def test_masks_that_do_not_go_with_their_target_are_refused(target: Any, mask: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        labelled({"target": target, "mask": mask}, valid_samples)


# Losses -------------------------------------------------------------------------------------------


def gradients(task: Task, prediction: Tensor, target: Any) -> tuple[Tensor, Tensor]:
    """The loss of the part with truth, and its gradient in the whole prediction."""
    prediction = prediction.clone().requires_grad_()
    found = task.labelled(target)
    loss = task.loss(*found.select(prediction, int(found.count)))
    return loss.detach(), torch.autograd.grad(loss, prediction)[0]


@pytest.mark.parametrize("form", ["marks", "mask"])
@pytest.mark.parametrize("kind", ["labels", "values", "smooth"])
def test_loss_and_gradient_are_exactly_those_of_the_valid_subset(kind: str, form: str) -> None:
    generator = torch.Generator().manual_seed(1)
    mask = torch.tensor([True, False, True, True, False])
    if kind == "labels":
        task, target, missing = classification("digit", 4), torch.tensor([1, 3, 0, 2, 2]), -1.0
        prediction = torch.randn(5, 4, generator=generator)
    else:
        loss = nn.functional.smooth_l1_loss if kind == "smooth" else nn.functional.mse_loss
        task, missing = own(loss), NAN
        prediction, target = torch.randn(2, 5, 2, generator=generator)
    shape = [-1, *[1] * (target.dim() - 1)]
    marked = torch.where(mask.reshape(shape), target, missing).to(target.dtype)
    given: Any = {"target": target, "mask": mask} if form == "mask" else marked
    value, gradient = gradients(task, prediction, given)
    expected, expected_gradient = gradients(task, prediction[mask], target[mask])
    assert torch.equal(value, expected)
    assert torch.equal(gradient[mask], expected_gradient)
    assert (gradient[~mask] == 0).all()


def test_missing_labels_do_not_matter_to_cross_entropy_itself() -> None:
    logits, labels = torch.randn(5, 4, requires_grad=True), torch.tensor([1, -1, 0, 2, -1])
    kept = labels >= 0
    loss = labelled_cross_entropy(logits, labels)
    assert torch.equal(loss, nn.functional.cross_entropy(logits[kept], labels[kept]))
    (gradient,) = torch.autograd.grad(loss, logits)
    assert (gradient[~kept] == 0).all()
    assert (gradient[kept] != 0).all()


def test_complete_labels_give_the_cross_entropy_of_torch_to_the_bit() -> None:
    logits, labels = torch.randn(64, 10, requires_grad=True), torch.randint(10, (64,))
    both = [loss(logits, labels) for loss in (labelled_cross_entropy, nn.functional.cross_entropy)]
    assert torch.equal(*both)
    assert torch.equal(*(torch.autograd.grad(loss, logits)[0] for loss in both))


def test_probabilities_may_be_missing_too() -> None:
    logits, truth = torch.randn(3, 4, requires_grad=True), torch.rand(3, 4).softmax(1)
    truth[1] = NAN
    loss = labelled_cross_entropy(logits, truth)
    torch.testing.assert_close(loss, nn.functional.cross_entropy(logits[::2], truth[::2]))
    (gradient,) = torch.autograd.grad(loss, logits)
    assert gradient.isfinite().all()
    assert (gradient[1] == 0).all()


def test_without_any_label_loss_and_gradient_are_zero() -> None:
    logits = torch.randn(2, 3, requires_grad=True)
    for labels in (torch.tensor([-1, -1]), torch.full((2, 3), NAN)):
        loss = labelled_cross_entropy(logits, labels)
        assert loss.item() == 0
        assert (torch.autograd.grad(loss, logits)[0] == 0).all()


def test_accuracy_is_of_labelled_samples_however_they_are_batched() -> None:
    accuracy = classification("digit", 3).metrics()["accuracy"]
    logits = nn.functional.one_hot(torch.tensor([0, 0, 1, 2, 2]), 3).float()
    labels = torch.tensor([0, -1, 2, -1, 2])
    for part in (slice(0, 2), slice(2, 4), slice(4, 5)):
        accuracy.update(logits[part], labels[part])
    assert accuracy.compute().item() == pytest.approx(2 / 3)


def test_complete_targets_are_handed_on_as_they_are() -> None:
    for task, target in ((classification("digit", 3), torch.tensor([0, 2])), (own(), torch.zeros(2, 1))):
        prediction = torch.zeros(2, 3)
        selected = task.labelled(target).select(prediction, count=2)
        assert selected[0] is prediction
        assert selected[1] is target
