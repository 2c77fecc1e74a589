"""Delta-m and the summary, by hand."""

from typing import Any

import pytest
from torch.nn.functional import l1_loss
from torchmetrics.regression import MeanAbsoluteError, MeanSquaredError, R2Score

from recon.experiments.report.summary import delta_m, delta_m_per_metric, single_task_baseline, summarise, with_delta_m
from recon.tasks.per_image import classification
from recon.tasks.task import Task

SEGMENTATION = classification("seg", 3)
DEPTH = Task("depth", l1_loss, lambda: {"abs": MeanAbsoluteError(), "sq": MeanSquaredError(), "r2": R2Score()}, 1)
TASKS = [SEGMENTATION, DEPTH]


def run(variant: str, seed: int = 0, method: str = "joint", **more: Any) -> dict[str, Any]:
    return {
        "id": f"{method}-{variant}-seed{seed}",
        "method": method,
        "variant": variant,
        "seed": seed,
        "metrics": {"seg": {"accuracy": 0.5}, "depth": {"abs": 2.0, "sq": 10.0, "r2": -0.5}},
        "parameters": 110,
        "parameters_base": 100,
        "flops": 1000,
        "conflict_by_layer": {"a": 0.25, "b": 0.75},
        "conflict_rate": 0.5,
        "seconds": 30.0,
        "delta_m": None,
        "delta_m_per_metric": None,
        **more,
    }


def single(task: str, values: dict[str, float], seed: int = 0) -> dict[str, Any]:
    only = {"method": "single", "metrics": {task: values}, "conflict_by_layer": {}, "conflict_rate": None}
    return run("single", seed, **{**only, "id": f"single-{task}-seed{seed}"})


BASELINE = [
    single("seg", {"accuracy": 0.3}, 0),
    single("seg", {"accuracy": 0.5}, 1),
    single("depth", {"abs": 4.0, "sq": 8.0, "r2": -0.25}, 0),
    single("depth", {"abs": 4.0, "sq": 8.0, "r2": -0.75}, 1),
]


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


def test_the_summary_has_a_row_a_method_and_variant_with_mean_and_deviation_over_seeds() -> None:
    runs = [
        run("plain", 0, delta_m=1.0, delta_m_per_metric=-3.0, seconds=20.0),
        run("plain", 1, delta_m=4.0, delta_m_per_metric=-5.0, seconds=40.0),
        run("recon", 0, seconds=60.0, parameters=120, flops=1500, method="joint"),
    ]
    plain, recon = summarise(runs)
    assert (plain["method"], plain["variant"], plain["seeds"]) == ("joint", "plain", [0, 1])
    assert plain["delta_m"] == {"mean": 2.5, "std": pytest.approx(2.1213203)}
    assert plain["delta_m_per_metric"] == {"mean": -4.0, "std": pytest.approx(1.4142136)}
    assert plain["metrics"]["seg"]["accuracy"] == {"mean": 0.5, "std": 0.0}
    assert plain["parameters_growth"] == pytest.approx(0.1)
    assert plain["seconds"] == 30.0
    assert plain["over_tasks"]["sq"] == {"mean": 10.0, "std": 0.0, "tasks": 1}
    assert recon["delta_m"] is None
    assert recon["metrics"]["seg"]["accuracy"] == {"mean": 0.5, "std": None}
    assert (plain["flops_growth"], recon["flops_growth"]) == (0.0, 0.5)


def test_conflict_before_recon_is_that_of_the_layers_that_stay_shared() -> None:
    plain = run("plain", 0, conflict_by_layer={"a": 0.9, "b": 0.5, "c": 0.3})
    other_seed = run("plain", 1, conflict_by_layer={"a": 0.0, "b": 0.0, "c": 0.0})
    recon = run("recon", 0, conflict_by_layer={"b": 0.2, "c": 0.2})
    rows = summarise([plain, other_seed, recon])
    assert [row["conflict_rate_plain"] for row in rows] == [None, pytest.approx(0.4)]


def test_single_task_networks_are_one_row_which_counts_all_of_them() -> None:
    (row,) = summarise(BASELINE)
    assert (row["method"], row["variant"], row["seeds"]) == ("single", "single", [0, 1])
    assert row["metrics"].keys() == {"seg", "depth"}
    assert (row["parameters"], row["flops"], row["seconds"]) == (220, 2000, 60.0)
    assert row["parameters_growth"] is None
    assert row["flops_growth"] is None
    assert row["conflict_rate"] is None


def test_a_metric_is_averaged_over_the_tasks_that_have_it_seed_by_seed() -> None:
    both = {"seg": {"accuracy": 0.5}, "kind": {"accuracy": 0.7, "f1": 0.2}}
    better = {"seg": {"accuracy": 0.6}, "kind": {"accuracy": 1.0, "f1": 0.4}}
    rows = summarise([run("plain", 0, metrics=both), run("plain", 1, metrics=better), *BASELINE[:2]])
    assert rows[0]["over_tasks"] == {
        "accuracy": {"mean": pytest.approx(0.7), "std": pytest.approx(0.02**0.5), "tasks": 2},
        "f1": {"mean": pytest.approx(0.3), "std": pytest.approx(0.02**0.5), "tasks": 1},
    }
    assert rows[1]["over_tasks"] == {"accuracy": {"mean": 0.4, "std": pytest.approx(0.02**0.5), "tasks": 1}}
