"""The choice among the settings of a grid."""

from pathlib import Path
from typing import Any

import pytest

from recon.experiments.choice import Choice, Tried, choice_of, scores
from recon.experiments.entry import MethodEntry
from recon.experiments.folder import ResultsFolder
from recon.tasks import classification, regression
from recon.tasks.task import Task

TASKS: list[Task] = [classification("digit", 10), regression("depth")]


def metrics(digit: float, depth: float) -> dict[str, dict[str, float]]:
    better, worse = (task.higher_is_better for task in TASKS)
    assert set(better.values()) == {True}
    assert False in worse.values()
    of_depth = {name: 0.0 if higher else depth for name, higher in worse.items()}
    return {"digit": dict.fromkeys(better, digit), "depth": of_depth}


def test_scores_weigh_tasks_alike_and_know_the_direction_of_metrics() -> None:
    first, second, third = scores([metrics(0.5, 300.0), metrics(0.5, 100.0), metrics(0.8, 250.0)], TASKS)
    assert second > third > first
    assert scores([metrics(0.8, 100.0), metrics(0.4, 100.0)], TASKS) == pytest.approx([0, -25])


def test_a_setting_far_off_does_not_drown_the_others() -> None:
    good, better, _ = scores([metrics(0.5, 110.0), metrics(0.5, 100.0), metrics(0.1, 1e12)], TASKS)
    assert better == 0
    assert good < -1


def test_a_metric_that_is_nowhere_above_zero_says_nothing() -> None:
    assert scores([metrics(0.0, 100.0), metrics(0.0, 100.0)], TASKS) == [0, 0]


def test_the_first_of_equal_settings_is_chosen() -> None:
    tried = [Tried({"options.c": place}, score, {}) for place, score in enumerate([None, -1.0, 0.0, 0.0])]
    choice = Choice(0.1, (0, 1), (*tried,))
    assert choice.chosen == {"options.c": 2}
    assert str(choice) == "c = 2, the best of 4 settings on 10% of training held out (means of 2 seeds); 1 diverged"


def test_nothing_is_chosen_where_all_diverged() -> None:
    choice = Choice(0.1, (0,), (Tried({"options.c": 1}, None, {}, "the loss is not finite"),))
    with pytest.raises(ValueError, match="all 1 setting of its grid diverged: the loss is not finite"):
        _ = choice.chosen
    assert choice.to_dict()["chosen"] is None


def test_the_choice_is_by_means_over_seeds(tmp_path: Path) -> None:
    entry = MethodEntry("joint", seeds=(3, 4, 5), grid={"options.weights": [[1, 1], [1, 2], [2, 1]]}, held_out=0.1)
    entry = MethodEntry(**{**vars(entry), "grid_seeds": 2})
    folder = ResultsFolder(tmp_path)
    found: dict[str, dict[str, Any]] = {
        "joint-grid0-seed3": {"metrics": metrics(0.9, 100.0)},  # the best of a seed
        "joint-grid0-seed4": {"metrics": metrics(0.1, 100.0)},
        "joint-grid1-seed3": {"metrics": metrics(0.6, 100.0)},
        "joint-grid1-seed4": {"metrics": metrics(0.6, 100.0)},
        "joint-grid2-seed3": {"metrics": metrics(1.0, 1.0)},
        "joint-grid2-seed4": {"metrics": {}, "diverged": "the loss is not finite"},
    }
    for run, result in found.items():
        with pytest.raises(ValueError, match="the grid is not finished"):
            choice_of(entry, folder, TASKS)
        folder.keep({"id": run, **result})
    choice = choice_of(entry, folder, TASKS)
    assert choice.chosen == {"options.weights": [1, 2]}
    assert choice.seeds == (3, 4)
    assert [one.score is None for one in choice.tried] == [False, False, True]
    assert choice.tried[0].metrics["digit"] == pytest.approx(metrics(0.5, 100.0)["digit"])
