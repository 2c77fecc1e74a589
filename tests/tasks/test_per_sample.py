"""Binary, multilabel and regression tasks against their definitions in NumPy."""

import math
import pickle
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torchmetrics import MetricCollection

from recon.models import linear_heads
from recon.tasks import Task, binary, multilabel, regression

NAN = math.nan
SAMPLES = 23


def logits_and_labels(columns: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits with ties, some far from zero; labels of which every third is missing."""
    generator = torch.Generator().manual_seed(seed)
    logits = (torch.randn(SAMPLES, columns, generator=generator) * 4).round() * 10
    labels = torch.randint(-1, 2, (SAMPLES, columns), generator=generator)
    labels[:2] = torch.tensor([[0], [1]])  # both values of each label are there
    return logits, labels


def auroc(logits: Tensor, labels: Tensor) -> float:
    """The fraction of pairs in the right order; a tie is half."""
    pairs = [(p > n) + 0.5 * (p == n) for p in logits[labels == 1].tolist() for n in logits[labels == 0].tolist()]
    return float(np.mean(pairs))


def average_precision(logits: Tensor, labels: Tensor) -> float:
    """The sum over thresholds of precision times the growth in recall."""
    known = labels >= 0
    logits, labels = logits[known], labels[known]
    total, recall = 0.0, 0.0
    for threshold in sorted(set(logits.tolist()), reverse=True):
        chosen = labels[logits >= threshold]
        found = chosen.sum().item() / labels.sum().item()
        total += (found - recall) * chosen.double().mean().item()
        recall = found
    return total


def evaluated(task: Task, prediction: Tensor, target: Tensor, sizes: list[int]) -> dict[str, float]:
    """The metrics over batches of these sizes, as training hands samples with truth to them."""
    metrics = MetricCollection(task.metrics())
    for part, truth in zip(prediction.split(sizes), target.split(sizes), strict=True):
        found = task.labelled(truth)
        metrics.update(*found.select(part, int(found.count)))
    return {name: value.item() for name, value in metrics.compute().items()}


batch_sizes = st.sets(st.integers(1, SAMPLES - 1)).map(lambda cuts: np.diff([0, *sorted(cuts), SAMPLES]).tolist())


@given(sizes=batch_sizes, seed=st.integers(0, 1000), columns=st.sampled_from([1, 3]))
@settings(max_examples=20, deadline=None)
def test_metrics_of_labels_equal_their_definition_however_the_set_is_batched(
    sizes: list[int], seed: int, columns: int
) -> None:
    logits, labels = logits_and_labels(columns, seed)
    task = binary("label") if columns == 1 else multilabel("labels", columns)
    values = evaluated(task, logits, labels.squeeze(1) if columns == 1 else labels, sizes)
    each = list(zip(logits.unbind(1), labels.unbind(1), strict=True))
    known = labels >= 0
    assert values == {
        "auroc": pytest.approx(np.mean([auroc(*one) for one in each]), abs=1e-6),
        "average_precision": pytest.approx(np.mean([average_precision(*one) for one in each]), abs=1e-6),
        "accuracy": pytest.approx(((logits > 0) == (labels == 1))[known].double().mean().item(), abs=1e-6),
    }


def test_logits_in_zero_to_one_are_no_probabilities_and_those_beyond_float32_keep_their_order() -> None:
    # A batch that lies in [0, 1] beside one that does not; and logits whose probability rounds to 1.
    logits, labels = torch.tensor([[0.9], [0.4], [0.95], [-1.0]]), torch.tensor([0, 1, 1, 1])
    assert evaluated(binary("label"), logits, labels, [2, 2])["auroc"] == pytest.approx(1 / 3)
    assert evaluated(binary("label"), logits, labels, [2, 2])["accuracy"] == pytest.approx(2 / 4)
    far = torch.tensor([[50.0], [60.0], [70.0]])
    assert evaluated(binary("label"), far, torch.tensor([0, 1, 1]), [3])["auroc"] == 1


def test_a_label_without_both_values_does_not_count() -> None:
    logits, labels = logits_and_labels(2)
    labels[:, 1] = 0
    values = evaluated(multilabel("labels", 2), logits, labels, [SAMPLES])
    assert values["auroc"] == pytest.approx(auroc(logits[:, 0], labels[:, 0]), abs=1e-6)
    assert evaluated(binary("label"), logits[:, :1], labels[:, 1], [SAMPLES])["auroc"] == 0


def test_a_label_without_truth_among_others_does_not_count() -> None:
    logits, labels = logits_and_labels(2)
    labels[:, 1] = -1
    values = evaluated(multilabel("labels", 2), logits, labels, [SAMPLES])
    assert values == pytest.approx(evaluated(binary("label"), logits[:, :1], labels[:, 0], [SAMPLES]))


@pytest.mark.parametrize("kind", [torch.uint8, torch.int8, torch.int64, torch.float32])
@pytest.mark.parametrize("task", [binary("label"), multilabel("labels", 3)], ids=lambda task: task.name)
def test_a_label_without_truth_is_one_to_count_loss_and_metrics_whatever_its_type(
    task: Task, kind: torch.dtype
) -> None:
    logits, labels = logits_and_labels(task.outputs)
    target = labels.to(kind)  # -1 is 255 in uint8
    assert task.count(target) == task.count(labels) < labels.numel()
    assert task.loss(logits, target) == task.loss(logits, labels)
    for name, metric in task.metrics().items():
        metric.update(logits, target)
        expected = task.metrics()[name]
        expected.update(logits, labels)
        assert metric.compute() == expected.compute()


@pytest.mark.parametrize("weight", [1.0, 3.0])
@pytest.mark.parametrize("kind", [torch.int64, torch.float32])
def test_the_loss_of_labels_is_the_mean_over_those_that_are_there(weight: float, kind: torch.dtype) -> None:
    logits, labels = logits_and_labels(3)
    logits /= 10
    terms = [
        weight * math.log1p(math.exp(-x)) if y == 1 else math.log1p(math.exp(x))
        for x, y in zip(logits.flatten().tolist(), labels.flatten().tolist(), strict=True)
        if y >= 0
    ]
    target = labels.to(kind)
    if kind.is_floating_point:
        target[labels < 0] = NAN
    task = multilabel("labels", 3, weight)
    assert task.loss(logits, target).item() == pytest.approx(np.mean(terms), rel=1e-5)
    assert task.count(target) == len(terms)


def test_each_label_may_have_a_weight_of_its_own() -> None:
    logits, labels = torch.zeros(1, 2), torch.tensor([[1, 1]])
    loss = multilabel("labels", 2, (1.0, 3.0)).loss(logits, labels)
    assert loss.item() == pytest.approx(2 * math.log(2))


def test_a_positive_weight_trains_positives_more() -> None:
    logits = torch.zeros(2, 1, requires_grad=True)
    binary("label", positive_weight=4.0).loss(logits, torch.tensor([1, 0])).backward()
    assert logits.grad is not None
    assert logits.grad.flatten().tolist() == pytest.approx([-1.0, 0.25])


NUMBERS = torch.tensor([[1.0, 20.0], [NAN, 5.0], [3.0, NAN], [NAN, NAN]])
PREDICTED = torch.tensor([[0.0, 3.0], [9.0, 1.0], [3.5, 9.0], [9.0, 9.0]])


@pytest.mark.parametrize(
    ("kind", "error"),
    [("mse", lambda e: e**2), ("mae", abs), ("huber", lambda e: e**2 / 2 if abs(e) <= 1 else abs(e) - 0.5)],
)
def test_the_loss_of_numbers_is_the_mean_in_units_of_their_scale(kind: str, error: Callable[[float], float]) -> None:
    task = regression("sizes", 2, kind, scale=(1.0, 10.0))  # type: ignore[arg-type]
    assert task.loss(PREDICTED, NUMBERS).item() == pytest.approx(np.mean([error(e) for e in (-1, 1, 0.5, 0.5)]))
    assert task.count(NUMBERS) == 4


def test_metrics_of_numbers_are_in_the_targets_unit() -> None:
    errors = np.array([-1, 10, 5, 0.5])
    values = evaluated(regression("sizes", 2, scale=(1.0, 10.0)), PREDICTED, NUMBERS, [1, 3])
    assert values == {"mse": pytest.approx(np.mean(errors**2)), "mae": pytest.approx(np.mean(abs(errors)))}


def test_one_number_per_sample_may_be_a_vector_or_a_column() -> None:
    task = regression("size")
    prediction, target = torch.tensor([[1.0], [5.0]]), torch.tensor([3.0, NAN])
    assert task.loss(prediction, target) == task.loss(prediction, target[:, None]) == 4
    assert task.count(target) == task.count(target[:, None]) == 1


TASKS = [binary("label"), multilabel("labels", 3), regression("sizes", 3), regression("size", loss="huber")]
each_task = pytest.mark.parametrize("task", TASKS, ids=lambda task: f"{task.name}")


@each_task
def test_without_any_truth_loss_and_gradient_are_zero(task: Task) -> None:
    prediction = torch.randn(4, task.outputs, requires_grad=True)
    loss = task.loss(prediction, torch.full((4, task.outputs), NAN))
    loss.backward()
    assert loss == 0
    assert prediction.grad is not None
    assert (prediction.grad == 0).all()


@each_task
@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric")
def test_without_any_truth_metrics_are_nan(task: Task) -> None:
    for metric in task.metrics().values():
        assert metric.compute().isnan()  # a set without samples
        metric.update(torch.zeros(4, task.outputs), torch.full((4, task.outputs), NAN))
        assert metric.compute().isnan()
        assert metric.compute().shape == ()


@each_task
def test_a_prediction_where_there_is_no_truth_does_not_matter(task: Task) -> None:
    target = torch.ones(4, task.outputs)
    target[1] = NAN
    prediction = torch.randn(4, task.outputs)
    elsewhere = prediction.clone()
    elsewhere[1] = 1e6
    torch.testing.assert_close(task.loss(elsewhere, target), task.loss(prediction, target))


@each_task
def test_the_gradient_is_the_derivative(task: Task) -> None:
    prediction = torch.randn(4, task.outputs, dtype=torch.float64, requires_grad=True)
    target = torch.ones(4, task.outputs, dtype=torch.float64)
    target[1] = NAN
    assert torch.autograd.gradcheck(lambda p: task.loss(p, target), prediction)


@each_task
@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_the_loss_of_many_halves_is_that_of_few(task: Task, kind: torch.dtype) -> None:
    few = torch.full((1, task.outputs), 2.0, dtype=kind, requires_grad=True)
    many = few.detach().expand(200_000, -1)
    loss = task.loss(few, torch.zeros(1, task.outputs))
    torch.testing.assert_close(task.loss(many, torch.zeros(200_000, task.outputs)), loss)
    loss.backward()
    assert loss.dtype == kind
    assert few.grad is not None
    assert few.grad.isfinite().all()


@each_task
def test_a_linear_head_goes_with_the_task_and_an_estimate_with_the_target(task: Task) -> None:
    prediction = linear_heads(5, [task])[task.name](torch.randn(4, 5))
    assert prediction.shape == (4, task.outputs)
    assert task.estimated(prediction).shape == ((4,) if task.name == "label" else (4, task.outputs))
    assert task.loss(prediction, task.estimated(prediction).detach()).isfinite()


@each_task
def test_tasks_pickle_and_say_which_direction_is_better(task: Task) -> None:
    directions = pickle.loads(pickle.dumps(task)).higher_is_better
    assert set(directions.values()) == {"size" not in task.name}


def test_estimates_are_in_the_form_of_the_target() -> None:
    assert binary("label").estimated(torch.tensor([[0.3], [-0.3]])).tolist() == [1, 0]
    assert regression("size", scale=10.0).estimated(torch.tensor([[0.5]])).tolist() == [[5.0]]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: binary("label", positive_weight=0.0), "positive_weight=0.0; give a positive number"),
        (lambda: multilabel("labels", 0), "labels=0; multilabel needs at least one"),
        (lambda: multilabel("labels", 3, (1.0, 2.0)), "2 positive weights for 3 labels; give one, or one each"),
        (lambda: regression("size", scale=(1.0, 2.0)), "2 scales for 1 outputs; give one, or one each"),
        (lambda: regression("size", scale=-1.0), "scale=-1.0; give a positive number"),
        (lambda: regression("size", huber_delta=0.0), "huber_delta=0.0; give a positive number"),
        (lambda: regression("size", loss="mes"), "unknown loss 'mes'"),  # type: ignore[arg-type]
    ],
)
def test_arguments_that_make_no_task_are_refused(make: Callable[[], Task], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()


@pytest.mark.parametrize("task", [binary("label"), regression("size")], ids=lambda task: task.name)
def test_shapes_that_do_not_go_together_are_refused(task: Task) -> None:
    with pytest.raises(ValueError, match=r"a prediction of shape \(4, 1\) does not go with a target of shape \(5,\)"):
        task.loss(torch.zeros(4, 1), torch.zeros(5))
    with pytest.raises(ValueError, match=r"a prediction of shape \(4,\) does not go"):
        task.loss(torch.zeros(4), torch.zeros(4))


@pytest.mark.parametrize("task", [binary("label"), multilabel("labels", 3)], ids=lambda task: task.name)
@pytest.mark.parametrize(
    ("label", "kind"),
    [(2, torch.int64), (-2, torch.int64), (254, torch.uint8), (1.01, torch.float32), (-0.5, torch.float32)],
)
def test_the_loss_refuses_a_label_outside_zero_to_one(task: Task, label: float, kind: torch.dtype) -> None:
    target = torch.ones(4, task.outputs, dtype=kind)
    target[1] = -1
    logits = torch.zeros(4, task.outputs, dtype=torch.bfloat16)  # has no 1.01
    assert task.loss(logits, target) > 0
    target[3, -1] = label
    with pytest.raises(ValueError, match=f"task '{task.name}' has 1 label outside .0, 1., such as {label:g}; a label"):
        task.loss(logits, target)


def test_a_probability_is_a_label_of_the_loss() -> None:
    target = torch.tensor([0.25, NAN, -1.0])
    assert binary("label").loss(torch.zeros(3, 1), target).item() == pytest.approx(math.log(2))


def test_a_compiled_loss_stays_whole_and_refuses_a_label_outside_zero_to_one() -> None:
    loss = torch.compile(binary("label").loss, fullgraph=True, backend="aot_eager")
    assert loss(torch.zeros(2, 1), torch.tensor([1, -1])).item() == pytest.approx(math.log(2))
    with pytest.raises(RuntimeError, match=r"task 'label' has a label outside \[0, 1\]"):
        loss(torch.zeros(2, 1), torch.tensor([1, 2]))


def test_metrics_refuse_what_they_cannot_judge() -> None:
    for metric in binary("label").metrics().values():
        with pytest.raises(ValueError, match="1 label is 2 or another out of range; a label is 0 or 1, and -1 where"):
            metric.update(torch.zeros(2, 1), torch.tensor([0, 2]))
        with pytest.raises(ValueError, match="a logit is not a number; the network has diverged"):
            metric.update(torch.tensor([[NAN], [0.0]]), torch.tensor([0, 1]))


def test_tasks_can_be_defined_without_loading_torchmetrics() -> None:
    code = (
        "import sys; from recon.tasks import binary, multilabel, regression;"
        "binary('a'), multilabel('b', 3), regression('c');"
        "sys.exit('torchmetrics' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_linear_head_learns_a_yes_or_no() -> None:
    x = torch.randn(256, 4)
    task = binary("label", positive_weight=2.0)
    target = (x[:, 0] - x[:, 1] > 0.5).long()
    head = nn.Linear(4, task.outputs)
    optimizer = torch.optim.Adam(head.parameters(), lr=0.1)
    for _ in range(60):
        optimizer.zero_grad()
        task.loss(head(x), target).backward()
        optimizer.step()
    assert evaluated(task, head(x), target, [100, 156])["auroc"] > 0.98
