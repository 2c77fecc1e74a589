"""The summary, by hand."""

import pytest
from some_runs import BASELINE, run

from recon.experiments.report.summary import summarise


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


def test_operations_grow_over_the_plain_run_of_the_same_network() -> None:
    wide = {"parameters_base": 400, "parameters": 400, "flops": 4000}
    runs = [run("plain"), run("plain", method="wide", **wide), run("recon", method="wide", **{**wide, "flops": 5000})]
    assert [row["flops_growth"] for row in summarise(runs)] == [0.0, 0.0, 0.25]


def test_controls_tell_how_much_more_they_cost_than_recon() -> None:
    runs = [run("recon"), run("wide_parameters", parameters=121, flops=1500), run("plain", parameters=100)]
    recon, wide, plain = (row["over_recon"] for row in summarise(runs))
    assert (recon, plain) == (None, None)
    assert wide == pytest.approx({"parameters": 0.1, "flops": 0.5})
    (alone,) = summarise([run("wide_parameters")])
    assert alone["over_recon"] is None
