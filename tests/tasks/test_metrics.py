"""Each metric against its definition in numpy, on the whole evaluation set at once."""

import io
import math
import pickle
from collections.abc import Callable

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn
from torchmetrics import Metric, MetricCollection

from recon.tasks.losses import valid_items
from recon.tasks.metrics import AbsoluteError, MeanAngle, MeanIoU, MedianAngle, PixelAccuracy, WithinAngle
from recon.tasks.per_batch import PerBatch
from recon.tasks.per_pixel import Aggregation, depth, normals, segmentation
from recon.tasks.task import Task
from recon.training import MultiTaskModule

SAMPLES, CLASSES = 9, 6
EVERYTHING = [SAMPLES]
TOLERANCE = {"median_angle": 1e-3}
Evaluation = tuple[Tensor, Tensor]


def tasks(aggregation: Aggregation = "dataset") -> list[Task]:
    return [
        segmentation("segmentation", CLASSES, aggregation),
        depth("depth", aggregation),
        normals("normals", aggregation),
    ]


def evaluation_set(task: str, seed: int = 0) -> Evaluation:
    """Random predictions and targets with holes; samples 0, 1 and 5 have no truth at all, one class never occurs."""
    generator = torch.Generator().manual_seed(seed)
    hole = torch.rand(SAMPLES, 5, 7, generator=generator) < 0.3
    hole[[0, 1, 5]] = True
    if task == "segmentation":
        logits = torch.randn(SAMPLES, CLASSES, 5, 7, generator=generator)
        logits[:, 4] = -10
        labels = torch.randint(CLASSES - 2, (SAMPLES, 5, 7), generator=generator)
        return logits, labels.masked_fill(hole, -1)
    if task == "depth":
        prediction, target = 0.1 + 10 * torch.rand(2, SAMPLES, 1, 5, 7, generator=generator)
    else:
        prediction, target = torch.randn(2, SAMPLES, 3, 5, 7, generator=generator)
        target = nn.functional.normalize(target + prediction, dim=1)
    return prediction, target.masked_fill(hole[:, None], math.nan)


def reference(task: str, prediction: Tensor, target: Tensor) -> dict[str, float]:
    """The metrics of a whole set, by their definitions."""
    p, t = (
        np.moveaxis(tensor.double().numpy(), 1, -1)
        for tensor in (prediction, target if task != "segmentation" else target[:, None])
    )
    valid = (t[..., 0] != -1) if task == "segmentation" else np.isfinite(t).all(-1)
    p, t = p[valid], t[valid]
    return {"segmentation": label_reference, "depth": depth_reference, "normals": angle_reference}[task](p, t)


def label_reference(p: NDArray[np.float64], t: NDArray[np.float64]) -> dict[str, float]:
    p, t = p.argmax(-1), t[:, 0]
    unions = [((p == c) | (t == c)).sum() for c in range(CLASSES)]
    ious = [((p == c) & (t == c)).sum() / union for c, union in enumerate(unions) if union]
    return {"miou": np.mean(ious), "pixel_accuracy": np.mean(p == t)}


def depth_reference(p: NDArray[np.float64], t: NDArray[np.float64]) -> dict[str, float]:
    return {"absolute_error": np.mean(abs(p - t)), "relative_error": np.mean(abs(p - t) / t)}


def angle_reference(p: NDArray[np.float64], t: NDArray[np.float64]) -> dict[str, float]:
    p, t = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (p, t))
    angles = np.degrees(2 * np.arctan2(np.linalg.norm(p - t, axis=1), np.linalg.norm(p + t, axis=1)))
    within = {f"within_{name}": np.mean(angles < x) for name, x in [("11_25", 11.25), ("22_5", 22.5), ("30", 30)]}
    return {"mean_angle": np.mean(angles), "median_angle": np.median(angles), **within}


def evaluated(metrics: MetricCollection, data: Evaluation, sizes: list[int]) -> dict[str, float]:
    for prediction, target in zip(data[0].split(sizes), data[1].split(sizes), strict=True):
        metrics.update(prediction, target)
    return {name: value.item() for name, value in metrics.compute().items()}


def assert_near(values: dict[str, float], expected: dict[str, float]) -> None:
    assert values.keys() == expected.keys()
    for name, value in values.items():
        assert value == pytest.approx(expected[name], abs=TOLERANCE.get(name, 1e-6), rel=0), name


each_task = pytest.mark.parametrize("task", tasks(), ids=lambda task: task.name)
each_per_batch_task = pytest.mark.parametrize("task", tasks("per_batch"), ids=lambda task: task.name)
each_task_and_aggregation = pytest.mark.parametrize("task", [*tasks(), *tasks("per_batch")], ids=lambda task: task.name)
batch_sizes = st.sets(st.integers(1, SAMPLES - 1)).map(lambda cuts: np.diff([0, *sorted(cuts), SAMPLES]).tolist())


# Over the whole set -------------------------------------------------------------------------------


@each_task
@given(sizes=batch_sizes, seed=st.integers(0, 1000))
@settings(max_examples=15, deadline=None)
def test_metrics_equal_their_definition_on_the_whole_set_however_it_is_batched(
    task: Task, sizes: list[int], seed: int
) -> None:
    data = evaluation_set(task.name, seed)
    assert_near(evaluated(MetricCollection(task.metrics()), data, sizes), reference(task.name, *data))


@each_task
def test_a_batch_without_truth_leaves_metrics_as_they_were(task: Task) -> None:
    prediction, target = evaluation_set(task.name)
    metrics = MetricCollection(task.metrics())
    before = evaluated(metrics, (prediction, target), EVERYTHING)
    assert before == evaluated(metrics, (prediction[:2], target[:2]), [1, 1])


@each_task_and_aggregation
def test_without_any_truth_fractions_are_zero_and_errors_nan(task: Task) -> None:
    prediction, target = evaluation_set(task.name)
    values = evaluated(MetricCollection(task.metrics()), (prediction[:2], target[:2]), [1, 1])
    for name, higher_is_better in task.higher_is_better.items():
        assert values[name] == 0 if higher_is_better else math.isnan(values[name])


@each_task
def test_metrics_keep_a_state_of_fixed_size(task: Task) -> None:
    data = evaluation_set(task.name)
    metrics = MetricCollection(task.metrics())
    evaluated(metrics, data, EVERYTHING)
    size = state_size(metrics)
    evaluated(metrics, data, [1] * SAMPLES)
    assert state_size(metrics) == size


def state_size(metrics: MetricCollection) -> int:
    return sum(state.numel() for metric in metrics.values() for state in metric.metric_state.values())


@each_task
def test_states_of_parts_of_the_set_add_up_to_the_state_of_the_whole(task: Task) -> None:
    prediction, target = evaluation_set(task.name)
    for name, whole in task.metrics().items():
        whole.update(prediction, target)
        parts = [task.metrics()[name] for _ in range(2)]
        parts[0].update(prediction[:4], target[:4])
        parts[1].update(prediction[4:], target[4:])
        for state, value in whole.metric_state.items():
            torch.testing.assert_close(sum(part.metric_state[state] for part in parts), value)


def test_a_class_absent_from_prediction_and_truth_does_not_count_but_one_only_predicted_does() -> None:
    labels = torch.tensor([[[0, 0, 1, 1, -1]]])
    for predicted, expected in [([0, 0, 1, 1, 2], 1), ([0, 0, 1, 2, 2], (1 + 1 / 2 + 0) / 3)]:
        logits = nn.functional.one_hot(torch.tensor([[predicted]]), 40).movedim(-1, 1).float()
        metric = MeanIoU(40)
        metric.update(logits, labels)
        assert metric.compute().item() == pytest.approx(expected)


def test_depth_errors_of_many_small_batches_keep_their_digits() -> None:
    """A sum kept in float32 loses the sixth."""
    target = torch.full((3000, 1, 1, 1), 1.0)
    prediction = target + 0.1 * torch.rand(target.shape, generator=torch.Generator().manual_seed(0))
    prediction[0] = 30_000.0
    metric = AbsoluteError()
    for sample in range(len(target)):
        metric.update(prediction[sample : sample + 1], target[sample : sample + 1])
    expected = np.mean(prediction.double().numpy() - 1)
    assert metric.compute().item() == pytest.approx(expected, rel=1e-12)


# Angles -------------------------------------------------------------------------------------------


def vectors_at(angles: list[float]) -> tuple[Tensor, Tensor]:
    """Pairs at these angles in degrees, of one pixel each."""
    radians = torch.tensor(angles, dtype=torch.float64).deg2rad()
    prediction = torch.stack([radians.cos(), radians.sin(), torch.zeros_like(radians)], 1)
    return prediction[..., None, None], torch.tensor([1.0, 0, 0], dtype=torch.float64).expand(len(angles), 3)[
        ..., None, None
    ]


@given(st.lists(st.floats(0, 180), min_size=1, max_size=8))
@settings(deadline=None)
def test_the_median_is_numpys_to_a_thousandth_of_a_degree(angles: list[float]) -> None:
    metric = MedianAngle()
    metric.update(*vectors_at(angles))
    assert metric.compute().item() == pytest.approx(np.median(angles), abs=1e-3, rel=0)


def test_the_median_of_two_far_angles_lies_between_them() -> None:
    metric = MedianAngle()
    metric.update(*vectors_at([10, 70]))
    assert metric.compute().item() == pytest.approx(40, abs=1e-3)


def test_small_angles_are_exact() -> None:
    """The arc cosine of a dot product in float32 gives 0 up to 0.02 degrees."""
    target = torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1)
    for sine in [1e-6, 1e-4]:
        metric = MeanAngle()
        metric.update(torch.tensor([1.0, 0, sine]).view(1, 3, 1, 1), target)
        assert metric.compute().item() == pytest.approx(math.degrees(sine), rel=1e-6)


def test_equal_and_opposite_vectors_are_at_0_and_180_degrees() -> None:
    _, target = evaluation_set("normals")
    for factor, angle in [(3.0, 0.0), (-0.5, 180.0)]:
        metrics = normals("normals").metrics()
        for metric in metrics.values():
            metric.update(torch.nan_to_num(factor * target), target)
        assert metrics["mean_angle"].compute().item() == pytest.approx(angle, abs=1e-6)
        assert metrics["median_angle"].compute().item() == pytest.approx(angle, abs=1e-3)
        assert metrics["within_30"].compute().item() == (angle == 0)


def test_lengths_do_not_matter() -> None:
    prediction, target = evaluation_set("normals")
    scaled = (1e-20 * prediction, 1e15 * target)
    values = [
        evaluated(MetricCollection(normals("normals").metrics()), data, EVERYTHING)
        for data in ((prediction, target), scaled)
    ]
    assert_near(values[1], values[0])


@pytest.mark.parametrize("sign", [1, -1])
def test_a_prediction_of_length_zero_counts_as_90_degrees(sign: int) -> None:
    _, target = evaluation_set("normals")
    metric = MeanAngle()
    metric.update(sign * torch.zeros_like(target), target)
    assert metric.compute().item() == 90


def test_within_counts_the_angles_below_its_threshold() -> None:
    angles = [0, 11.249, 11.251, 22.499, 22.501, 29.999, 30.001, 180]
    for degrees, expected in [(11.25, 2 / 8), (22.5, 4 / 8), (30, 6 / 8)]:
        metric = WithinAngle(degrees)
        metric.update(*vectors_at(angles))
        assert metric.compute().item() == pytest.approx(expected)


@pytest.mark.parametrize("degrees", [0, 180, -1, 0.0005, math.pi])
def test_a_threshold_off_the_histograms_bins_is_refused(degrees: float) -> None:
    with pytest.raises(ValueError, match=rf"degrees={degrees} is not a multiple of 0.001 between 0 and 180"):
        WithinAngle(degrees)


# Per batch ----------------------------------------------------------------------------------------


@each_per_batch_task
@given(sizes=batch_sizes)
@settings(max_examples=10, deadline=None)
def test_per_batch_is_the_mean_over_batches_with_truth_of_each_batchs_value(task: Task, sizes: list[int]) -> None:
    data = evaluation_set(task.name)
    batches = zip(data[0].split(sizes), data[1].split(sizes), strict=True)
    values = [reference(task.name, *batch) for batch in batches if valid_items(batch[1]).any()]
    expected = {name: float(np.mean([value[name] for value in values])) for name in values[0]}
    assert_near(evaluated(MetricCollection(task.metrics()), data, sizes), expected)


@each_per_batch_task
def test_per_batch_differs_from_the_whole_set(task: Task) -> None:
    data = evaluation_set(task.name)
    values = evaluated(MetricCollection(task.metrics()), data, [4, 3, 2])
    whole = reference(task.name, *data)
    assert all(abs(values[name] - whole[name]) > 1e-5 for name in values)


@each_per_batch_task
def test_per_batch_metrics_have_the_direction_of_the_metric(task: Task) -> None:
    plain = {task.name: task for task in tasks()}[task.name]
    assert task.higher_is_better == plain.higher_is_better


# In a collection, as MultiTaskModule uses them ----------------------------------------------------


def test_angle_metrics_share_one_histogram() -> None:
    metrics = MetricCollection(normals("normals").metrics())
    metrics.update(*evaluation_set("normals"))
    assert len(metrics.compute_groups) == 1
    assert len({metric.histogram.data_ptr() for metric in metrics.values(copy_state=False)}) == 1


@each_task_and_aggregation
def test_a_collection_pickles_saves_resets_and_gives_a_batchs_value(task: Task) -> None:
    prediction, target = evaluation_set(task.name)
    first, rest = (prediction[:4], target[:4]), (prediction[4:], target[4:])
    whole = evaluated(MetricCollection(task.metrics()), (prediction, target), [4, 5])
    metrics = MetricCollection(task.metrics())
    metrics.persistent(True)
    assert_near({name: value.item() for name, value in metrics(*first).items()}, reference(task.name, *first))

    pickled = pickle.loads(pickle.dumps(metrics))
    assert_near(evaluated(pickled, rest, [5]), whole)

    file = io.BytesIO()
    torch.save(metrics.state_dict(), file)
    file.seek(0)
    loaded = MetricCollection(task.metrics())
    loaded.persistent(True)
    loaded.load_state_dict(torch.load(file))
    assert_near(evaluated(loaded, rest, [5]), whole)

    metrics.reset()
    assert_near(evaluated(metrics, (prediction, target), [4, 5]), whole)


def test_the_metrics_of_a_run_are_those_of_the_whole_set_for_any_batch_size() -> None:
    sets = {task.name: evaluation_set(task.name) for task in tasks()}
    images = torch.cat([prediction for prediction, _ in sets.values()], 1)
    targets = {name: target for name, (_, target) in sets.items()}
    expected = {
        f"val/{name}/{metric}": value for name, data in sets.items() for metric, value in reference(name, *data).items()
    }
    for size in [2, 4]:
        batches = [
            (images[i : i + size], {name: target[i : i + size] for name, target in targets.items()})
            for i in range(0, SAMPLES, size)
        ]
        module = MultiTaskModule(nn.Identity(), tasks(), heads=channel_heads())
        trainer = pl.Trainer(
            accelerator="cpu",
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
        )
        for _ in range(2):  # the second time from metrics that Lightning has reset
            trainer.validate(module, torch.utils.data.DataLoader(batches, batch_size=None), verbose=False)
            logged = {name: value.item() for name, value in trainer.callback_metrics.items()}
            for name, value in logged.items():
                tolerance = TOLERANCE.get(name.rsplit("/", 1)[1], 1e-6)
                assert value == pytest.approx(expected[name], abs=tolerance, rel=0), name
            assert logged.keys() == expected.keys()


def channel_heads() -> nn.ModuleDict:
    """Heads that hand on each task's channels of the image."""
    heads, start = nn.ModuleDict(), 0
    for task in tasks():
        head = nn.Conv2d(CLASSES + 4, task.outputs, 1, bias=False)
        nn.init.zeros_(head.weight)
        head.weight.data[:, start : start + task.outputs, 0, 0] = torch.eye(task.outputs)
        heads[task.name] = head
        start += task.outputs
    return heads


# What cannot be judged ----------------------------------------------------------------------------


@pytest.mark.parametrize("label", [CLASSES, 255, -2])
@pytest.mark.parametrize("metric", [MeanIoU, PixelAccuracy])
def test_a_label_that_is_no_class_is_refused(metric: Callable[[int], Metric], label: int) -> None:
    logits, labels = evaluation_set("segmentation")
    labels[3, 2, 2] = label
    with pytest.raises(ValueError, match=rf"label {label} .*labels are 0 to {CLASSES - 1}, and -1 where there is none"):
        metric(CLASSES).update(logits, labels)


def test_logits_of_another_number_of_classes_are_refused() -> None:
    logits, labels = evaluation_set("segmentation")
    with pytest.raises(ValueError, match=f"logits have {CLASSES} channels; 13 classes need one each"):
        MeanIoU(13).update(logits, labels)


@pytest.mark.parametrize("value", [0.0, -2.5])
@pytest.mark.parametrize("name", ["absolute_error", "relative_error"])
def test_a_true_depth_that_is_not_positive_is_refused(name: str, value: float) -> None:
    prediction, target = evaluation_set("depth")
    target[4, 0, 1, 1] = value
    with pytest.raises(ValueError, match=rf"true depth {value:g} is not positive.*set the target to NaN"):
        depth("depth").metrics()[name].update(prediction, target)


def test_a_true_normal_without_direction_is_refused() -> None:
    prediction, target = evaluation_set("normals")
    target[4, :, 1, 1] = 0
    with pytest.raises(ValueError, match=r"a true vector is zero.*set the target to NaN"):
        MeanAngle().update(prediction, target)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_predicted_normal_that_is_not_finite_is_refused_where_there_is_truth(value: float) -> None:
    prediction, target = evaluation_set("normals")
    prediction[0] = value
    MeanAngle().update(prediction, target)
    prediction[4] = value
    with pytest.raises(ValueError, match="a predicted vector is not finite"):
        MeanAngle().update(prediction, target)


@each_task
def test_other_shapes_are_refused(task: Task) -> None:
    prediction, target = evaluation_set(task.name)
    for metric in [*task.metrics().values(), PerBatch("value", next(iter(task.metrics().values())))]:
        with pytest.raises(ValueError, match=r"do(es)? not go with"):
            metric.update(prediction, target[..., :-1])
