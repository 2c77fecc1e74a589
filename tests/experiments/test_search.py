"""Searches of a plan that are runs of their own: they end early, and may run on a proxy."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from some_jobs import Here, configuration_of, fit, job, prepare, runs_of

from recon.conflict import ConflictMap
from recon.experiments import Plan, benchmark, outcomes
from recon.experiments.reuse.identity import RunIdentity
from recon.files.reading import read_object

PlanFactory = Callable[..., Plan]

LONG = fit(trainer={"max_epochs": 11})
HALVED = {"train_size": 8, "test_size": 8, "held_out": 0.5}
STOP = {"stable": {"window": 10, "top": 2}}
MLP = {"class_path": "recon.models.MLP", "init_args": {"inputs": 1296, "widths": [8, 4]}}
METHODS = [{"method": "joint", "seeds": [0, 1]}, {"method": "uw", "variants": ["recon"], "seeds": [1]}]


def test_runs_wait_for_the_search_of_their_seed(tiny: PlanFactory) -> None:
    runs = runs_of(tiny(methods=METHODS, proxy={"features": 4}))
    assert [run.id for run in runs.values() if run.variant == "search"] == ["joint-search-seed0", "joint-search-seed1"]
    assert runs["joint-recon-seed0"].needs == "joint-search-seed0"
    assert runs["uw-recon-seed1"].needs == "joint-search-seed1"
    assert runs["joint-search-seed1"].waits_for == runs["joint-plain-seed0"].waits_for == ()
    assert runs_of(tiny(methods=METHODS))["joint-recon-seed0"].needs == "joint-plain-seed0"


def test_a_plan_without_a_joint_entry_searches_too(tiny: PlanFactory) -> None:
    plan = tiny(methods=[{"method": "uw", "variants": ["recon"]}], stop=STOP)
    plan.check()
    assert runs_of(plan)["joint-search-seed0"].entry.method == "joint"


def test_a_search_has_the_arguments_of_the_proxy_and_others_do_not(tiny: PlanFactory, tmp_path: Path) -> None:
    backbone = {"class_path": "recon.models.LeNet", "init_args": {"features": 8}}
    plan = tiny(fit=fit(model={"backbone": backbone}), methods=METHODS, proxy={"features": 4})
    runs = runs_of(plan)
    widths = {
        run: configuration_of(plan, runs[run], tmp_path)["model"]["backbone"]["init_args"]["features"]
        for run in ("joint-search-seed0", "joint-plain-seed0")
    }
    assert widths == {"joint-search-seed0": 4, "joint-plain-seed0": 8}


def test_stop_and_proxy_count_for_the_search_alone(tiny: PlanFactory, tmp_path: Path) -> None:
    def identity(run: str, **keys: Any) -> str:
        plan = tiny(fit=fit(), methods=METHODS, **keys)
        return RunIdentity.of(job(plan, runs_of(plan)[run], tmp_path), None).hash

    search = "joint-search-seed0"
    window = {"stable": {"window": 20, "top": 2}}
    written_out = {"stable": {**STOP["stable"], "changes": 1, "severity": -0.1}}
    assert identity(search, stop=STOP) == identity(search, stop=written_out)
    hashes = [identity(search, stop=STOP), identity(search, stop=window), identity(search, proxy={"features": 4})]
    assert len({*hashes, identity("joint-plain-seed0")}) == 4
    assert identity("joint-plain-seed0", stop=STOP, proxy={"features": 4}) == identity("joint-plain-seed0")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"stop": {"steady": {}}}, "stop has the keys steady; give stop"),
        ({"stop": {"stable": {"windw": 10}}}, "stop.stable: unknown key 'windw'; nearest: 'window'"),
        ({"stop": {"stable": {"window": 5}}}, "stop.stable: window is 5; give a number of training steps from 10"),
        (
            {"proxy": {"features": 4}, "map": "multi-fashion-mnist-resnet18"},
            "stop and proxy are of searches for conflict",
        ),
    ],
)
def test_a_search_that_cannot_be_is_refused_with_the_plan(
    tiny: PlanFactory, keys: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        tiny(methods=METHODS, **keys).check()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"proxy": {"widht": 2}}, "proxy: .*widht"),
        ({"stop": {"stable": {"window": 10, "top": 9}}}, "top=9"),
        ({"fit": LONG, "stop": STOP, "every": 6}, "every=6 observes fewer than two"),
        ({"stop": STOP}, "window of stop.stable has 10 steps, and the whole training 1; give a shorter window, or a"),
        ({"fit": fit(trainer={"max_epochs": 30, "max_steps": 9}), "stop": STOP}, "10 steps, and the whole training 9;"),
        (
            {"fit": fit(trainer={"max_epochs": 10}, data={"init_args": HALVED}), "stop": STOP},
            "has 10 steps, and the whole training 10;",
        ),
        ({"fit": fit(model={"backbone": MLP}), "proxy": {"widths": [8, 4, 4]}}, "the layers of the proxy .* differ"),
    ],
)
def test_a_search_is_checked_before_any_training(tiny: PlanFactory, keys: dict[str, Any], message: str) -> None:
    plan = tiny(**{"fit": fit(), "methods": METHODS, "top": 1, **keys})
    plan.check()
    with pytest.raises(ValueError, match=message):
        prepare(plan, None)


def test_each_process_of_a_search_has_the_batches_of_its_limit(tiny: PlanFactory) -> None:
    images = {"init_args": {"train_size": 12, "test_size": 8, "batch_size": 2}}  # three batches in each process
    trainer = {"devices": 2, "strategy": "ddp", "limit_train_batches": 3, "max_epochs": 4}
    prepare(tiny(fit=fit(trainer=trainer, data=images), methods=METHODS, top=1, stop=STOP), None)
    short = fit(trainer={**trainer, "max_epochs": 3}, data=images)
    with pytest.raises(ValueError, match="10 steps, and the whole training 9;"):
        prepare(tiny(fit=short, methods=METHODS, top=1, stop=STOP), None)


@pytest.mark.slow
def test_a_search_ends_early_on_its_proxy_and_hands_its_map_over(
    tiny: PlanFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outcomes, "draw_figures", lambda *arguments: [])
    backbone = {"class_path": "recon.models.LeNet", "init_args": {"features": 8}}
    data = {"init_args": {"train_size": 60, "test_size": 8, "batch_size": 2}}
    keys = {"fit": fit(model={"backbone": backbone}, data=data), "methods": [{"method": "joint"}], "single": False}

    def trained(**changes: Any) -> list[str]:
        executor = Here()
        benchmark(tiny(**{**keys, "top": 1, **changes}), tmp_path, executor=executor)
        return executor.begun

    stop = {"stable": {"window": 10, "severity": 0.0}}
    assert trained(stop=stop, proxy={"features": 4})[0] == "joint-search-seed0"
    found = read_object(tmp_path / "results.json")
    assert {run["variant"] for run in found["runs"]} == {"plain", "recon"}
    told = found["searches"]["joint-search-seed0"]
    assert told["proxy"]["arguments"] == {"features": 4}
    assert (told["stop"]["window"], told["stop"]["top"]) == (10, 1)
    path = tmp_path / "runs" / "joint-search-seed0" / "conflict_map.json"
    wide = ConflictMap.load(tmp_path / "runs" / "joint-plain-seed0" / "conflict_map.json")
    assert ConflictMap.load(path).parameters == wide.parameters
    assert trained(stop=stop, proxy={"features": 4}) == []
    again = trained(stop={"stable": {**stop["stable"], "window": 20}}, proxy={"features": 4})
    assert again[0] == "joint-search-seed0" and "joint-plain-seed0" not in again
