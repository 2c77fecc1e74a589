from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pytest
from scipy.stats import ttest_rel
from some_runs import BASELINE, run
from torch.nn.functional import l1_loss
from torchmetrics.regression import MeanAbsoluteError, MeanSquaredError, R2Score

from recon.experiments.folder import ResultsFolder
from recon.experiments.plan import Plan
from recon.experiments.report.differences import Difference, differences, markdown_differences
from recon.experiments.report.report import write_results
from recon.tasks.per_image import classification
from recon.tasks.task import Task


def runs_of(method: str, variant: str, *deltas: float | None) -> list[dict[str, Any]]:
    return [run(variant, seed, method, delta_m=delta) for seed, delta in enumerate(deltas)]


def test_the_interval_is_that_of_the_paired_t_test() -> None:
    draw = np.random.default_rng(0)
    first, second = draw.normal(1, 2, 7), draw.normal(0, 2, 7)
    found = Difference("a", "b", tuple(range(7)), tuple((first - second).tolist()))
    expected = ttest_rel(first, second).confidence_interval(0.95)
    assert found.interval == pytest.approx((expected.low, expected.high))
    assert found.mean == pytest.approx(first.mean() - second.mean())


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ((2.0, 2.1, 2.2), "better"),
        ((-2.0, -2.1, -2.2), "worse"),
        ((2.0, -0.5, 1.0), "not distinguishable"),
        ((1.0, 1.0, 1.0), "better"),
        ((0.0, 0.0), "not distinguishable"),
        ((5.0,), "one seed: no interval"),
    ],
)
def test_the_verdict_is_that_of_the_interval(values: tuple[float, ...], verdict: str) -> None:
    assert Difference("a", "b", tuple(range(len(values))), values).verdict == verdict


def test_the_bootstrap_resamples_seeds() -> None:
    found = Difference("a", "b", (0, 1), (0.0, 1.0)).bootstrap
    assert found == (0.0, 1.0)  # a quarter of the resamples is all 0, a quarter all 1
    assert Difference("a", "b", (0,), (1.0,)).bootstrap is None


def test_rows_are_compared_with_plain_training_and_with_their_controls() -> None:
    runs = [
        *runs_of("joint", "plain", -3.0, -2.0, -4.0),
        *runs_of("joint", "recon", -1.0, 0.0, 1.0),
        *runs_of("joint", "random", -2.0, -1.0, -1.0),
        *runs_of("pcgrad", "plain", -2.5, -2.0, -4.5),
        *runs_of("grouped", "recon", -0.5, -1.0, None),
        *runs_of("single", "single", None),
    ]
    found = {(one.first, one.second): one for one in differences(runs, "joint")}
    assert list(found) == [
        ("joint + Recon", "joint"),
        ("joint + Recon", "joint + random layers"),
        ("joint + random layers", "joint"),
        ("pcgrad", "joint"),
        ("grouped + Recon", "joint"),
    ]
    assert found["joint + Recon", "joint"].values == (2.0, 2.0, 5.0)
    assert found["joint + Recon", "joint + random layers"].wins == 3
    assert found["pcgrad", "joint"].wins == 1
    assert found["grouped + Recon", "joint"].seeds == (0, 1)


def test_norms_are_compared_with_as_many_random_layers_and_recon_with_every_control() -> None:
    variants = ("plain", "recon", "norms", "norms_random", "wide_flops")
    runs = [one for variant in variants for one in runs_of("joint", variant, 1.0)]
    pairs = [(one.first.removeprefix("joint"), one.second.removeprefix("joint")) for one in differences(runs, "joint")]
    assert pairs == [
        (" + Recon", ""),
        (" + Recon", " + all norms"),
        (" + Recon", " + random layers, as many as norms"),
        (" + Recon", " wider, equal FLOPs"),
        (" + all norms", ""),
        (" + all norms", " + random layers, as many as norms"),
        (" + random layers, as many as norms", ""),
        (" wider, equal FLOPs", ""),
    ]


def test_seeds_are_paired_by_their_number() -> None:
    runs = [run("plain", 1, delta_m=1.0), run("plain", 0, delta_m=5.0), run("recon", 0, delta_m=6.0)]
    (found,) = differences(runs, "joint")
    assert (found.seeds, found.values) == ((0,), (1.0,))


def test_without_a_baseline_or_common_seeds_there_is_nothing_to_compare() -> None:
    assert differences([run("plain"), run("recon")], "joint") == []
    assert differences([run("plain", 0, delta_m=1.0), run("recon", 1, delta_m=2.0)], "joint") == []


def test_the_table_says_how_many_seeds_of_how_many_are_better() -> None:
    values = (2.0, 3.0, -0.5)
    table = markdown_differences([Difference("joint + Recon", "joint", (0, 1, 2), values)])
    cells = [cell.strip() for cell in table.splitlines()[2].strip("|").split("|")]
    assert cells[0] == "joint + Recon over joint"
    assert cells[1] == f"{fmean(values):+.2f}"
    assert cells[4:] == ["2 of 3 seeds", "not distinguishable"]
    assert cells[2] == "-2.98 to +5.98"


def test_the_baseline_is_joint_training_of_the_plans_own_network_without_a_task_tree(tmp_path: Path) -> None:
    plan = Plan.from_dict(
        {
            "name": "trees",
            "fit": {
                "trainer": {"max_epochs": 1},
                "model": {"backbone": {"class_path": "recon.models.LeNet"}},
                "data": {"class_path": "recon.data.Glyphs"},
            },
            "methods": [{"method": "joint", "name": "bmtas", "tree": "tree.json"}, {"method": "joint"}],
        }
    )
    runs = [run("plain", seed, method) for method in ("bmtas", "joint") for seed in (0, 1)]
    depth = Task("depth", l1_loss, lambda: {"abs": MeanAbsoluteError(), "sq": MeanSquaredError(), "r2": R2Score()}, 1)
    tasks = [classification("seg", 3), depth]
    report = write_results(plan, [*BASELINE, *runs], tasks, ResultsFolder(tmp_path))
    assert "| bmtas over joint |" in " ".join(report.table.split())
    assert "joint over bmtas" not in report.table
