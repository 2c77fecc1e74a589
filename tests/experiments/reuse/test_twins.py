"""Runs of a plan that are the same run: one is trained, and the others have its result."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from some_jobs import Here, fit

from recon.experiments import Plan, benchmark, outcomes
from recon.experiments.executors.executor import Executor, Failed, RunsFailed
from recon.experiments.executors.local import LocalExecutor
from recon.experiments.executors.ray import RayExecutor

PlanFactory = Callable[..., Plan]

NAMES = ("one", "other")
PLAIN = [{"method": "joint", "name": name, "variants": ["plain"]} for name in NAMES]
RUNS = ["one-plain-seed0", "other-plain-seed0"]


@pytest.fixture(autouse=True)
def without_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outcomes, "draw_figures", lambda *arguments: [])


@pytest.fixture
def small(tiny: PlanFactory) -> PlanFactory:
    """Two entries of one name each, whose runs are the same."""
    return lambda **changes: tiny(**{"fit": fit(), "methods": PLAIN, "top": 1, "single": False, **changes})


def begun(plan: Plan, out: Path, **options: Any) -> list[str]:
    """The runs that a benchmark begins, two at a time."""
    executor = Here(places=2)
    benchmark(plan, out, executor=executor, **options)
    return executor.begun


def results(out: Path) -> dict[str, dict[str, Any]]:
    return {run["id"]: run for run in json.loads((out / "results.json").read_text())["runs"]}


def are_one(out: Path, runs: list[str]) -> bool:
    """Whether runs have one result, which tells its time to the millisecond."""
    names = ("id", "method", "variant")
    found = [{key: value for key, value in results(out)[run].items() if key not in names} for run in runs]
    return all(result == found[0] for result in found)


def test_the_second_takes_over_the_result_of_the_first(
    small: PlanFactory, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert begun(small(), tmp_path) == RUNS[:1]
    assert are_one(tmp_path, RUNS)
    assert f"copied from {tmp_path}: other-plain-seed0\n" in capfd.readouterr().err
    assert begun(small(), tmp_path) == []


def test_runs_that_need_the_second_take_their_layers_from_it(small: PlanFactory, tmp_path: Path) -> None:
    methods = [PLAIN[0], {"method": "joint", "variants": ["plain", "recon"]}]
    assert begun(small(methods=methods), tmp_path) == ["joint-plain-seed0", "joint-recon-seed0"]
    assert are_one(tmp_path, ["one-plain-seed0", "joint-plain-seed0"])


def test_equal_settings_of_two_grids_are_tried_once(small: PlanFactory, tmp_path: Path) -> None:
    rate = "model.optimizer.init_args.lr"
    methods = [
        {**entry, "grid": {rate: rates}, "held_out": 0.5}
        for entry, rates in zip(PLAIN, ([0.1, 0.01], [0.01, 0.1]), strict=True)
    ]
    optimizer = {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.1}}
    plan = small(methods=methods, fit=fit(model={"optimizer": optimizer}))
    tried = begun(plan, tmp_path)
    assert len([run for run in tried if "grid" in run]) == 2
    assert len(tried) == 3  # the chosen one of each is the same
    assert are_one(tmp_path, RUNS)


def test_with_only_the_second_it_is_trained(small: PlanFactory, tmp_path: Path) -> None:
    assert begun(small(), tmp_path, only=["other-*"]) == RUNS[1:]
    assert begun(small(), tmp_path) == []
    assert are_one(tmp_path, RUNS)


class Killed(BaseException):
    """Ends a benchmark in the midst of a run."""


def interrupted(plan: Plan, out: Path, run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Carry out a run until its checkpoint is written."""

    def killing(*arguments: Any, **options: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr("recon.experiments.run._by_task", killing)
        begun(plan, out, only=[run])
    assert (out / "runs" / run / "last.ckpt").exists()


def test_the_one_that_was_interrupted_goes_on(
    small: PlanFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(small(), tmp_path, RUNS[1], monkeypatch)
    assert begun(small(), tmp_path) == RUNS[1:]
    assert are_one(tmp_path, RUNS)


def test_the_one_that_was_interrupted_goes_on_although_others_need_its_twin(
    small: PlanFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(small(), tmp_path, RUNS[1], monkeypatch)
    needed = [PLAIN[1], {"method": "joint", "variants": ["plain", "recon"]}]
    assert begun(small(methods=needed), tmp_path) == [RUNS[1], "joint-recon-seed0"]


def test_of_two_that_were_interrupted_one_goes_on_and_the_other_has_its_result(
    small: PlanFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(small(), tmp_path, RUNS[0], monkeypatch)
    shutil.copytree(tmp_path / "runs" / RUNS[0], tmp_path / "runs" / RUNS[1])  # both had begun in an earlier version
    assert begun(small(), tmp_path) == RUNS[:1]
    assert are_one(tmp_path, RUNS)


def test_the_second_fails_with_the_first_and_both_are_tried_again(
    small: PlanFactory, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    executor = Here(Failed("no"), places=2)
    with pytest.raises(RunsFailed, match=r"2 of 2 runs failed \(one-plain-seed0, other-plain-seed0\)"):
        benchmark(small(), tmp_path, executor=executor)
    assert executor.begun == RUNS[:1]
    assert "other-plain-seed0 failed: one-plain-seed0, which is the same run, failed" in capfd.readouterr().err
    assert begun(small(), tmp_path) == RUNS[:1]


@pytest.mark.slow
@pytest.mark.parametrize("executor_of", [lambda plan: LocalExecutor(2), lambda plan: RayExecutor(plan, jobs=2)])
def test_processes_train_one_of_them(
    small: PlanFactory, tmp_path: Path, executor_of: Callable[[Plan], Executor]
) -> None:
    plan = small()
    benchmark(plan, tmp_path, executor=executor_of(plan))
    assert are_one(tmp_path, RUNS)
