"""What a benchmark would do, told beside what it then does."""

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from recon.cli.dispatch import main
from recon.experiments import Plan
from recon.experiments.dry_run.forecast import Forecast
from recon.experiments.dry_run.likeness import likeness
from recon.experiments.dry_run.preview import preview
from recon.experiments.dry_run.trials import _without_grid
from recon.experiments.fit import Fit
from recon.experiments.folder import ResultsFolder
from recon.experiments.job import Job
from recon.experiments.reuse.identity import data_identity
from recon.experiments.reuse.plan_record import PLAN, plan_record
from recon.experiments.sweep import Proposed, keep_proposal, read_proposal
from recon.files.atomic import write_json

PlanFactory = Callable[..., Plan]
Searched = tuple[Plan, Path, dict[str, Any]]

METHODS = [{"method": "joint", "variants": ["plain", "recon"], "seeds": [0, 1]}]


class Here:
    """An executor that carries out what it is given at once, in this process."""

    def submit(self, function: Callable[..., Any], *arguments: Any) -> "Future[Any]":
        future: Future[Any] = Future()
        try:
            future.set_result(function(*arguments))
        except ValueError as error:
            future.set_exception(error)
        return future


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    @contextmanager
    def pool(*_: Any) -> Iterator[tuple[Here, float]]:
        yield Here(), 1.0

    if "slow" not in request.keywords:
        monkeypatch.setattr("recon.experiments.dry_run.trials._pool", pool)
        monkeypatch.setattr("recon.experiments.dry_run.trial.WARM_UP", 1)
        monkeypatch.setattr("recon.experiments.dry_run.trial.MEASURED", 2)


@pytest.fixture
def finished(searched: Searched, tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    """A benchmark whose plain joint run of seed 0 is finished, and the result of that."""
    plan, found, result = searched
    out, fit = tmp_path / "finished", Fit(plan.fit)
    run = Path("runs", "joint-plain-seed0")  # other tests may have carried out more in that folder
    shutil.copytree(found / run, out / run)
    write_json(out / PLAN, plan_record(plan, fit, data_identity(fit)))
    return out, result


def files(folder: Path) -> dict[str, tuple[int, int]]:
    """All files of a folder, with size and time."""
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*")}


def states(forecast: Forecast) -> dict[str, dict[int, str]]:
    return {f"{row.label} {row.variant}": dict(row.seeds) for row in forecast.rows}


def test_finished_runs_are_known_and_the_others_measured(
    tiny: PlanFactory, finished: tuple[Path, dict[str, Any]]
) -> None:
    out, result = finished
    before = files(out)
    forecast = preview(tiny(methods=METHODS, single=False), out, jobs=2)
    assert states(forecast) == {"joint plain": {0: "finished", 1: "new"}, "joint recon": {0: "new", 1: "new"}}
    plain, recon = forecast.rows
    assert (plain.parameters, plain.flops) == (result["parameters"], result["flops"])
    assert recon.layers == 4 and recon.parameters > plain.parameters and not recon.is_guess
    assert recon.trial is not None and forecast.seconds > recon.trial.seconds
    assert files(out) == before


def test_a_run_is_found_where_it_would_be_copied_from(
    tiny: PlanFactory, finished: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    methods = [{"method": "joint", "name": "again", "variants": ["plain"]}]
    forecast = preview(tiny(methods=methods, single=False), tmp_path / "out", reuse=[finished[0]])
    assert states(forecast) == {"again plain": {0: "finished"}}
    assert forecast.lines == (f"copied from {finished[0]}: again-plain-seed0",)
    assert not (tmp_path / "out").exists()


def test_layers_by_a_map_to_be_found_are_a_guess(tiny: PlanFactory, tmp_path: Path) -> None:
    methods = [{"method": "joint", "variants": ["plain", "recon"]}, {"method": "uw", "variants": ["recon"]}]
    plan = tiny(methods=methods, single=False, select={"threshold": 10**6})
    plain, recon, uw = preview(plan, tmp_path, jobs=1).rows
    assert (plain.is_guess, recon.is_guess, uw.is_guess) == (False, True, True)
    assert recon.layers is None and recon.problem is not None and "1000000" in recon.problem
    assert recon.trial == plain.trial
    assert list(tmp_path.iterdir()) == []


def test_a_setting_to_be_chosen_is_a_guess_and_points_of_a_grid_are_rows(tiny: PlanFactory, tmp_path: Path) -> None:
    grid = {"grid": {"model.optimizer.init_args.lr": [0.1, 0.01]}, "held_out": 0.25}
    optimizer = {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.1}}
    plan = tiny(methods=[{"method": "joint", "name": "tuned", "variants": ["plain"], **grid}], single=False)
    plan.fit["model"]["optimizer"] = optimizer
    forecast = preview(plan, tmp_path, jobs=1, only=["tuned-plain-seed0"])  # with the grid that it needs
    assert list(states(forecast)) == ["tuned grid 0", "tuned grid 1", "tuned plain"]
    assert [row.is_guess for row in forecast.rows] == [False, False, True]


def test_settings_that_a_sweep_will_propose_are_guesses(tiny: PlanFactory, tmp_path: Path) -> None:
    sweep = {"sweep": {"model.optimizer.init_args.lr": [0.1, 0.01]}, "trials": 12, "held_out": 0.25}
    plan = tiny(methods=[{"method": "joint", "name": "tuned", "variants": ["plain"], **sweep}], single=False)
    plan.fit["model"]["optimizer"] = {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.1}}
    last = max(plan.runs([]), key=lambda run: -1 if run.point is None else run.point)
    assert last.grid
    left = dict.fromkeys(last.grid, ("tuned", "grid 0", None))
    job = _without_grid(Job(plan, last, Fit(plan.fit), ResultsFolder(tmp_path)), left)
    assert job.setting() == {}
    assert job.own_fit().configuration["data"]["init_args"]["held_out"] == 0.25


def test_settings_that_a_sweep_has_kept_are_those_of_the_dry_run(tmp_path: Path) -> None:
    kept = ResultsFolder(tmp_path / "results")
    kept.path.mkdir()
    space = {"options.c": {"low": 0.1, "high": 0.9}}
    proposed = Proposed({"options.c": 0.123}, ())  # by another version of Optuna
    keep_proposal(kept.proposal("tuned", 0), space, proposed)
    like = ResultsFolder(likeness(kept.path, tmp_path / "like"))
    assert read_proposal(like.proposal("tuned", 0), space) == proposed


@pytest.mark.parametrize("change", [{"metods": []}, {"top": "many"}, {"methods": [{"method": "jont"}]}, {"top": 0}])
def test_a_wrong_plan_is_told_as_the_benchmark_tells_it(
    change: dict[str, Any], tiny_file: Callable[..., Path], tmp_path: Path
) -> None:
    content = ["benchmark", str(tiny_file(tmp_path, **change)), "--out", str(tmp_path / "out")]
    told = []
    for flags in ([], ["--dry-run"]):
        with pytest.raises(SystemExit) as end:
            main([*content, *flags])
        told.append(end.value.code)
    assert told[0] == told[1]
    assert str(told[0]).startswith("recon: ")


@pytest.mark.slow
def test_the_command_measures_in_a_process_and_writes_nothing(
    tiny_file: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = tiny_file(tmp_path, single=False)
    main(["benchmark", str(plan), "--out", str(tmp_path / "out"), "--jobs", "1", "--dry-run"])
    printed = capsys.readouterr().out
    assert "joint plain" in printed
    assert "runs    1: 0 finished, 0 resumed, 1 new" in printed
    assert not (tmp_path / "out").exists()


def test_of_runs_that_are_the_same_one_costs_time(tiny: PlanFactory, tmp_path: Path) -> None:
    methods = [{"method": "joint", "name": name, "variants": ["plain"], "seeds": [0, 1]} for name in ("one", "other")]
    forecast = preview(tiny(methods=methods, single=False), tmp_path, jobs=4)
    assert states(forecast) == {"one plain": {0: "new", 1: "new"}, "other plain": {0: "copied", 1: "copied"}}
    first = forecast.rows[0].trial
    assert first is not None
    assert forecast.seconds == pytest.approx(1.0 + first.seconds)
    assert "4: 0 finished, 0 resumed, 2 new, 2 copied" in str(forecast)
    assert "other plain" in str(forecast).partition("copied: 0 1")[0]
