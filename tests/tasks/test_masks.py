"""Edges, saliency and parts against their definitions in NumPy, and against torchmetrics."""

import math
import pickle
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torchmetrics import MetricCollection
from torchmetrics.classification import BinaryPrecisionRecallCurve

from recon.models.dense_heads import convolutional_head
from recon.tasks import Task, edges, parts, saliency
from recon.tasks.mask_metrics import MaxF, MaxMeanIoU

IMAGES = 5
TASKS = [edges("edges"), saliency("saliency")]
each_task = pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)


def logits_and_labels(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits, and labels with pixels without truth; image 1 has none at all, image 2 no positive."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(IMAGES, 1, 6, 7, generator=generator)
    labels = torch.randint(-1, 2, (IMAGES, 6, 7), generator=generator)
    labels[1] = -1
    labels[2].clamp_(max=0)
    return logits, labels


def weighted(logits: Tensor, labels: Tensor, weight: float) -> float:
    """The loss, pixel by pixel."""
    terms = [
        weight * math.log1p(math.exp(-x)) if y == 1 else (1 - weight) * math.log1p(math.exp(x))
        for x, y in zip(logits.flatten().tolist(), labels.flatten().tolist(), strict=True)
        if y >= 0
    ]
    return float(np.mean(terms))


def evaluated(task: Task, logits: Tensor, labels: Tensor, sizes: list[int]) -> dict[str, float]:
    metrics = MetricCollection(task.metrics())
    for part, truth in zip(logits.split(sizes), labels.split(sizes), strict=True):
        metrics.update(part, truth)
    return {name: value.item() for name, value in metrics.compute().items()}


def test_the_loss_of_edges_weighs_positives_by_a_fixed_number() -> None:
    logits, labels = logits_and_labels()
    for weight in (0.95, 0.8):
        loss = edges("edges", positive_weight=weight).loss(logits, labels)
        assert loss.item() == pytest.approx(weighted(logits, labels, weight), rel=1e-5)


def test_the_loss_of_saliency_weighs_positives_by_the_share_of_negatives() -> None:
    logits, labels = logits_and_labels()
    share = (labels == 0).sum().item() / (labels >= 0).sum().item()
    loss = saliency("saliency").loss(logits, labels)
    assert loss.item() == pytest.approx(weighted(logits, labels, share), rel=1e-5)
    assert saliency("saliency").loss(logits[2:3], labels[2:3]) == 0  # one kind of pixels alone


@pytest.mark.parametrize("sizes", [[5], [1, 1, 1, 1, 1], [2, 3]])
def test_max_f_is_that_of_torchmetrics_curve_at_the_same_thresholds(sizes: list[int]) -> None:
    logits, labels = logits_and_labels()
    for task, steps, beta_squared in ((edges("a"), 100, 1.0), (saliency("b"), 20, 0.3)):
        thresholds = torch.tensor([step / steps for step in range(1, steps)])
        curve = BinaryPrecisionRecallCurve(thresholds, ignore_index=-1)
        curve.update(logits.sigmoid().flatten(), labels.flatten())
        precision, recall, _ = curve.compute()
        f = (1 + beta_squared) * precision * recall / (beta_squared * precision + recall)
        assert evaluated(task, logits, labels, sizes)["max_f"] == pytest.approx(f.nan_to_num(0).max().item(), abs=1e-6)


@pytest.mark.parametrize("sizes", [[5], [1, 1, 1, 1, 1], [2, 3]])
def test_miou_of_saliency_is_the_mean_over_images_at_the_best_threshold(sizes: list[int]) -> None:
    logits, labels = logits_and_labels()
    means = []
    for threshold in np.linspace(0.2, 0.9, 15):
        ious = []
        for image in (0, 2, 3, 4):
            known = labels[image] >= 0
            predicted, true = logits[image, 0].sigmoid()[known] > threshold, labels[image][known] == 1
            union = (predicted | true).sum().item()
            ious.append((predicted & true).sum().item() / union if union else 1.0)
        means.append(np.mean(ious))
    assert evaluated(saliency("saliency"), logits, labels, sizes)["miou"] == pytest.approx(max(means), abs=1e-6)


@each_task
def test_a_perfect_prediction_has_metrics_of_one_and_no_truth_of_nan(task: Task) -> None:
    _, labels = logits_and_labels()
    perfect = torch.where(labels == 1, 9.0, -9.0).unsqueeze(1)
    assert set(evaluated(task, perfect, labels, [IMAGES]).values()) == {1.0}
    assert np.isnan([*evaluated(task, perfect, torch.full_like(labels, -1), [IMAGES]).values()]).all()
    nowhere = torch.full_like(perfect, -9.0)
    assert set(evaluated(task, nowhere, torch.ones_like(labels), [IMAGES]).values()) == {0.0}


@pytest.mark.parametrize("aggregation", ["dataset", "per_batch"])
@pytest.mark.parametrize("make", [edges, saliency, parts])
def test_a_set_without_truth_is_nan_even_after_one_with_it(make: Callable[..., Task], aggregation: str) -> None:
    task = make("task", aggregation=aggregation)
    prediction, labels = torch.randn(2, task.outputs, 3, 4), torch.ones(2, 3, 4, dtype=torch.long)
    for metric in task.metrics().values():
        metric.update(prediction, labels)
        assert metric.compute().isfinite()
        metric.reset()
        metric.update(prediction, torch.full_like(labels, -1))
        assert metric.compute().isnan()


@each_task
def test_states_of_parts_of_the_set_add_up(task: Task) -> None:
    logits, labels = logits_and_labels()
    for name, whole in task.metrics().items():
        whole.update(logits, labels)
        halves = [task.metrics()[name] for _ in range(2)]
        for half, part in zip(halves, (slice(2), slice(2, None)), strict=True):
            half.update(logits[part], labels[part])
        for state, value in whole.metric_state.items():
            torch.testing.assert_close(sum(half.metric_state[state] for half in halves), value)


@each_task
def test_gradients_are_finite_and_zero_where_there_is_no_truth(task: Task) -> None:
    logits, labels = logits_and_labels()
    logits = logits.double().requires_grad_()
    task.loss(logits, labels).backward()
    assert logits.grad is not None
    assert ((logits.grad.squeeze(1) != 0) == (labels >= 0)).all()
    assert torch.autograd.gradcheck(lambda x: task.loss(x, labels), logits)


@each_task
@pytest.mark.parametrize("label", [2, -2, 255])
def test_a_label_that_is_no_yes_or_no_is_refused(task: Task, label: int) -> None:
    logits, labels = logits_and_labels()
    labels[0, 0, 0] = label
    with pytest.raises(ValueError, match=rf"has 1 label outside \[0, 1\], such as {label}; .*-1 where there is none"):
        task.loss(logits, labels)


@each_task
def test_the_loss_of_many_halves_is_that_of_few(task: Task) -> None:
    logits = torch.tensor([4.0, -4.0], dtype=torch.float16)
    labels = torch.tensor([0, 1])
    few, many = (task.loss(logits.expand(1, 1, height, -1), labels.expand(1, height, -1)) for height in (1, 300_000))
    assert few > 0
    torch.testing.assert_close(many, few)


@each_task
def test_a_convolutional_head_goes_with_the_task_and_estimates_are_probabilities(task: Task) -> None:
    prediction = convolutional_head(4, task.outputs)(torch.randn(2, 4, 6, 7))
    assert prediction.shape == (2, 1, 6, 7)
    estimate = task.estimated(prediction)
    torch.testing.assert_close(estimate, prediction[:, 0].sigmoid())
    assert task.paint is not None
    assert task.key is not None
    picture = task.paint(torch.tensor([[1.0, 0.0], [0.25, -1.0]]), torch.zeros(2, 2))
    assert picture.shape == (3, 2, 2)
    assert (picture[:, 1, 1] == 0).all()
    legend = task.key(torch.zeros(2, 2))
    torch.testing.assert_close(picture[:, 0, 0], legend.colours[1])  # type: ignore[union-attr]
    assert task.count(torch.tensor([[[1, -1]]])) == 1


@each_task
def test_shapes_and_types_that_do_not_go_together_are_refused(task: Task) -> None:
    with pytest.raises(ValueError, match=r"should be \(B, 1, H, W\) and \(B, H, W\)"):
        task.loss(torch.zeros(1, 2, 3, 4), torch.zeros(1, 3, 4, dtype=torch.long))
    with pytest.raises(ValueError, match=r"labels are torch\.float32; convert them to torch.int64"):
        task.loss(torch.zeros(1, 1, 3, 4), torch.zeros(1, 3, 4))


@pytest.mark.parametrize("make", [lambda: MaxF([0.5]), lambda: MaxMeanIoU([0.5])])
def test_metrics_refuse_what_they_cannot_judge(make: Callable[[], MaxF | MaxMeanIoU]) -> None:
    with pytest.raises(ValueError, match="1 pixel has label 2 or another out of range"):
        make().update(torch.zeros(1, 1, 1, 2), torch.tensor([[[2, 0]]]))
    with pytest.raises(ValueError, match="a logit is not a number"):
        make().update(torch.full((1, 1, 1, 2), math.nan), torch.tensor([[[1, 0]]]))


@pytest.mark.parametrize("make", [edges, saliency, parts])
def test_each_takes_the_mean_over_batches_if_asked_and_pickles(make: Callable[..., Task]) -> None:
    task = pickle.loads(pickle.dumps(make("task", aggregation="per_batch")))
    assert set(task.higher_is_better.values()) == {True}
    with pytest.raises(ValueError, match="unknown aggregation 'per_bach'"):
        make("task", aggregation="per_bach")


def test_parts_have_their_miou_with_the_background() -> None:
    prediction = torch.eye(7)[torch.tensor([[[0, 0, 1, 2]]])].movedim(-1, 1)
    values = evaluated(parts("parts"), prediction, torch.tensor([[[0, 1, 1, -1]]]), [1])
    assert values == {"miou": pytest.approx(0.5)}  # of background and head, 1/2 each; no other part is there
    assert parts("parts").outputs == 7


def test_a_weight_of_edges_is_between_zero_and_one() -> None:
    with pytest.raises(ValueError, match=r"positive_weight=1\.0; give a number between 0 and 1"):
        edges("edges", positive_weight=1.0)
