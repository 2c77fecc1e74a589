"""Sweeps: what Optuna proposes, and a choice that a kill does not change."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from some_jobs import Here, configuration_of, fit, prepare, runs_of

from recon.experiments import Plan, benchmark, outcomes
from recon.experiments.folder import ResultsFolder
from recon.experiments.sweep import Proposed, before, keep_proposal, proposal, read_proposal
from recon.files.reading import read_object

PlanFactory = Callable[..., Plan]
LR = "model.optimizer.init_args.lr"
SPACE: dict[str, Any] = {
    "options.c": {"low": 0.1, "high": 0.9},
    "options.weights": [[1, 1], [1, 2], [2, 1]],
    "top": {"low": 1, "high": 4},
    "severity": {"low": -0.2, "high": 0.0},
    LR: {"low": 1e-4, "high": 1e-1, "log": True},
}


@pytest.fixture(autouse=True)
def optuna() -> None:
    pytest.importorskip("optuna")


def test_a_proposal_is_within_its_ranges_and_follows_from_the_scores_alone() -> None:
    known: list[tuple[dict[str, Any], float | None]] = []
    for number in range(12):
        setting = proposal(SPACE, number, known)
        assert setting == proposal(SPACE, number, known)
        assert list(setting) == list(SPACE)
        assert 0.1 <= setting["options.c"] <= 0.9
        assert setting["options.weights"] in SPACE["options.weights"]
        assert type(setting["top"]) is int
        assert 1 <= setting["top"] <= 4
        assert -0.2 <= setting["severity"] == round(setting["severity"], 2) <= 0
        assert 1e-4 <= setting[LR] <= 1e-1
        known.append((setting, None if number == 2 else -abs(setting["options.c"] - 0.5)))


def test_later_proposals_come_nearer_to_the_best() -> None:
    space = {"options.c": {"low": 0.0, "high": 1.0}}
    known: list[tuple[dict[str, Any], float | None]] = []
    for number in range(30):
        setting = proposal(space, number, known[: len(before(number))])
        known.append((setting, -abs(setting["options.c"] - 0.3)))
    distances = [-score for _, score in known if score is not None]
    assert sum(distances[-10:]) < sum(distances[:10]) / 2


def test_a_kept_proposal_is_that_of_its_space(tmp_path: Path) -> None:
    path = tmp_path / "sweeps" / "cagrad-0.json"
    assert read_proposal(path, SPACE) is None
    proposed = Proposed(proposal(SPACE, 0, []), ("a", "b"))
    keep_proposal(path, SPACE, proposed)
    assert read_proposal(path, SPACE) == proposed
    assert read_proposal(path, {**SPACE, "top": [1, 2]}) is None
    path.write_text(path.read_text().replace("setting", "settings"))
    with pytest.raises(ValueError, match=r"cagrad-0\.json is damaged.*; remove it to propose the setting again"):
        read_proposal(path, SPACE)


def sweep(space: dict[str, Any], **keys: Any) -> dict[str, Any]:
    return {"method": "joint", "variants": ["plain"], "sweep": space, "trials": 3, "held_out": 0.25, **keys}


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (sweep({LR: [1]}), "a sweep over model.optimizer.init_args.lr of .1.; give two values or more, or a range"),
        (sweep({LR: {"low": 1}}), "give a list of values, or a range"),
        (sweep({LR: {"low": 1, "high": 1}}), "low and high are numbers, the first the smaller"),
        (sweep({LR: {"low": 0, "high": 1, "log": True}}), "a range in the logarithm is above 0"),
        (sweep({"model.backbone.width": [1, 2]}), "a sweep over 'model.backbone.width'; give keys such as"),
        (sweep({"top": {"low": 1, "high": 2.5}}), "give whole numbers of layers"),
        (sweep({"top": {"low": 0, "high": 2}}), "give whole numbers of layers, from 1"),
        (sweep({"top": [1, "two"]}), "give whole numbers of layers, from 1"),
        (sweep({"severity": [-0.1, -0.05, -0.111]}), "0.01"),
        (sweep({"severity": ["-0.1", 0]}), "give numbers such as -0.1"),
        (sweep({"severity": {"low": -0.111, "high": 0}}), "0.01"),
        (sweep({LR: [1, 2]}, trials=1), "a sweep and trials: 1; give 2 trials or more"),
        (sweep({LR: [1, 2]}, held_out=None), "a sweep and no held_out, the share of training on which to choose"),
        (sweep({LR: [1, 2]}, grid={LR: [1, 2]}), "both a grid and a sweep; give one"),
        (sweep({}, held_out=None), "one of sweep and trials; give both, or neither"),
        (sweep({"top": [1, 2]}), "add recon to variants"),
        (sweep({"top": [1, 2]}, variants=["plain", "recon"]), "the map that it finds itself; name a map file"),
    ],
)
def test_a_sweep_that_cannot_choose_is_refused(tiny: PlanFactory, entry: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny(methods=[entry]).check()


def test_without_optuna_the_cure_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ValueError, match=r"optuna is not installed; .*\[optuna\]"):
        proposal(SPACE, 0, [])


def test_a_sweep_over_layers_of_a_map_to_be_found_is_checked_before_training(
    tiny: PlanFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    swept = sweep({"top": {"low": 1, "high": 45}}, method="cagrad", variants=["recon"])
    plan = tiny(methods=[{"method": "joint"}, swept])
    plan.check()
    with pytest.raises(ValueError, match="top=45 would branch all 41 shared layers"):
        prepare(plan, None)
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ValueError, match="optuna is not installed"):
        prepare(plan, None)


def test_four_trials_go_at_a_time_and_all_runs_wait_for_the_last(tiny: PlanFactory) -> None:
    runs = runs_of(tiny(methods=[sweep({LR: [1, 2]}, trials=6)], single=False))
    names = [f"joint-sweep{number}-seed0" for number in range(6)]
    assert list(runs) == [*names, "joint-plain-seed0"]
    assert [len(runs[name].waits_for) for name in names] == [0, 0, 0, 0, 1, 2]
    assert runs["joint-plain-seed0"].waits_for == tuple(names)


def test_a_trial_branches_the_layers_of_its_own_k_and_severity(
    tiny: PlanFactory, searched: tuple[Plan, Path, dict[str, Any]]
) -> None:
    _, out, _ = searched
    space = {"top": {"low": 1, "high": 4}, "severity": [-0.1, -0.05]}
    entry = sweep(space, method="cagrad", variants=["recon"], trials=2)
    plan = tiny(methods=[{"method": "joint"}, entry])
    plan.check()
    runs = runs_of(plan)
    assert runs["cagrad-sweep1-seed0"].waits_for == ("joint-plain-seed0",)
    for place, (top, severity) in enumerate([(3, -0.05), (1, -0.1)]):
        kept = Proposed({"top": top, "severity": severity}, ())
        keep_proposal(ResultsFolder(out).proposal("cagrad", place), space, kept)
        own = configuration_of(plan, runs[f"cagrad-sweep{place}-seed0"], out)
        assert len(own["model"]["branch"]["layers"]) == top
        assert own["data"]["init_args"]["held_out"] == 0.25


def test_a_proposal_from_trials_of_another_configuration_is_made_anew(
    tiny: PlanFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outcomes, "draw_figures", lambda *arguments: [])
    space = {LR: {"low": 1e-4, "high": 1e-1, "log": True}}
    path = ResultsFolder(tmp_path).proposal("joint", 4)

    def trained(momentum: float) -> tuple[list[str], Proposed]:
        """The runs that a plan begins for its fifth trial, and the setting of that."""
        optimizer = {"class_path": "torch.optim.SGD", "init_args": {"lr": 1.0, "momentum": momentum}}
        own = {"fit": fit(model={"optimizer": optimizer}), "methods": [sweep(space, trials=5)], "single": False}
        executor = Here()
        benchmark(tiny(**own), tmp_path, executor=executor, only=["joint-sweep4-seed0"])
        proposed = read_proposal(path, space)
        assert proposed is not None
        trial = yaml.safe_load((tmp_path / "runs" / "joint-sweep4-seed0" / "config.yaml").read_text())
        assert trial["model"]["optimizer"]["init_args"]["lr"] == proposed.setting[LR]
        return executor.begun, proposed

    both = ["joint-sweep0-seed0", "joint-sweep4-seed0"]
    begun, first = trained(momentum=0.0)
    assert begun == both
    kept = Proposed({LR: 0.0123}, first.runs)  # by another version of Optuna
    keep_proposal(path, space, kept)
    assert trained(momentum=0.0) == (both[1:], kept)
    begun, anew = trained(momentum=0.9)
    assert begun == both
    assert anew.setting == first.setting
    assert anew.runs != first.runs


@pytest.mark.slow
def test_a_sweep_of_ten_trials_that_is_killed_goes_on_to_the_same_choice(
    tiny: PlanFactory, tiny_file: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outcomes, "draw_figures", lambda *arguments: [])
    optimizer = {"class_path": "torch.optim.SGD", "init_args": {"lr": 1.0}}
    space = {LR: {"low": 1e-4, "high": 1.0, "log": True}, "options.weights": [[1, 1], [1, 2]]}
    content = {"fit": fit(model={"optimizer": optimizer}), "methods": [sweep(space, trials=10)], "single": False}
    plan = tiny(**content, top=1)
    whole = tmp_path / "whole"
    benchmark(plan, whole, executor=Here())
    killed = tmp_path / "killed"
    path = tiny_file(tmp_path, **content, top=1)
    process = subprocess.Popen(
        [sys.executable, "-m", "recon", "benchmark", str(path), "--out", str(killed), "--jobs", "1"],
        start_new_session=True,
        stderr=subprocess.DEVNULL,
    )
    end = time.monotonic() + 240
    while len(list(killed.glob("runs/*/result.json"))) < 5 and process.poll() is None and time.monotonic() < end:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before_kill = {path: path.stat().st_mtime_ns for path in killed.glob("runs/*/result.json")}
    assert 5 <= len(before_kill) < 10
    executor = Here()
    benchmark(plan, killed, executor=executor)
    assert len(executor.begun) == 11 - len(before_kill)
    assert all(path.stat().st_mtime_ns == time_ns for path, time_ns in before_kill.items())
    choices = [read_object(out / "results.json")["grids"]["joint"] for out in (whole, killed)]
    assert choices[0] == choices[1]
    assert len(choices[0]["tried"]) == 10
    own = yaml.safe_load((killed / "runs" / "joint-plain-seed0" / "config.yaml").read_text())
    assert own["model"]["optimizer"]["init_args"]["lr"] == choices[0]["chosen"][LR]
