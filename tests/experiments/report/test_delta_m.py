"""Delta-m, by hand."""

import pytest
from some_runs import BASELINE, run, single
from torch.nn.functional import l1_loss
from torchmetrics.regression import MeanAbsoluteError, MeanSquaredError, R2Score

from recon.experiments.report.delta_m import delta_m, delta_m_per_metric, single_task_baseline, with_delta_m
from recon.tasks.per_image import classification
from recon.tasks.task import Task

SEGMENTATION = classification("seg", 3)
DEPTH = Task("depth", l1_loss, lambda: {"abs": MeanAbsoluteError(), "sq": MeanSquaredError(), "r2": R2Score()}, 1)
TASKS = [SEGMENTATION, DEPTH]


def test_delta_m_averages_each_tasks_metrics_first_and_then_tasks() -> None:
    # seg: (0.5 - 0.4) / 0.4 = 25 %.
    # depth: abs halves, +50 %; sq grows by a quarter, -25 %; r2 stays at -0.5, 0 %: 25/3 % on average.
    metrics = run("plain")["metrics"]
    baseline = {"seg": {"accuracy": 0.4}, "depth": {"abs": 4.0, "sq": 8.0, "r2": -0.5}}
    assert delta_m(metrics, baseline, TASKS) == pytest.approx((25 + 25 / 3) / 2)


def test_delta_m_as_cagrad_reports_it_counts_every_metric_once_and_lower_is_better() -> None:
    metrics = run("plain")["metrics"]
    baseline = {"seg": {"accuracy": 0.4}, "depth": {"abs": 4.0, "sq": 8.0, "r2": -0.5}}
    assert delta_m_per_metric(metrics, baseline, TASKS) == pytest.approx(-(25 + 50 - 25 + 0) / 4)
    assert delta_m_per_metric(metrics, baseline, [SEGMENTATION]) == -delta_m(metrics, baseline, [SEGMENTATION])


def test_a_gain_over_a_negative_baseline_is_a_gain() -> None:
    task = Task("depth", l1_loss, lambda: {"r2": R2Score()}, 1)
    assert delta_m({"depth": {"r2": -0.25}}, {"depth": {"r2": -0.5}}, [task]) == pytest.approx(50)


def test_there_is_no_gain_relative_to_zero() -> None:
    with pytest.raises(ValueError, match="single-task seg/accuracy is 0"):
        delta_m({"seg": {"accuracy": 1.0}}, {"seg": {"accuracy": 0.0}}, [SEGMENTATION])


def test_the_baseline_is_the_mean_of_the_single_task_runs() -> None:
    baseline = single_task_baseline([*BASELINE, run("plain")], TASKS)
    assert baseline == {"seg": {"accuracy": 0.4}, "depth": {"abs": 4.0, "sq": 8.0, "r2": -0.5}}


def test_delta_m_is_null_for_single_task_runs_and_until_every_task_has_one() -> None:
    completed = with_delta_m([*BASELINE, run("plain")], TASKS)
    assert [one["delta_m"] for one in completed[:4]] == [None] * 4
    assert completed[4]["delta_m"] == pytest.approx((25 + 25 / 3) / 2)
    assert completed[4]["delta_m_per_metric"] == pytest.approx(-50 / 4)
    assert with_delta_m([*BASELINE[:2], run("plain")], TASKS)[-1]["delta_m"] is None


def test_a_baseline_of_zero_costs_delta_m_and_not_the_benchmark() -> None:
    runs = [single("seg", {"accuracy": 0.0}), *BASELINE[2:], run("plain")]
    with pytest.warns(UserWarning, match="no delta-m: single-task seg/accuracy is 0"):
        assert with_delta_m(runs, TASKS)[-1]["delta_m"] is None
