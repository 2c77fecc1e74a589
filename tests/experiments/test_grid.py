"""Grids of settings, chosen on held-out training data."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from some_jobs import Here, fit, prepare, runs_of

from recon.experiments import Plan, benchmark, outcomes
from recon.experiments.fit import Fit
from recon.experiments.grid import holding_out, points, with_setting
from recon.experiments.report.joined import join
from recon.files.reading import read_object

PlanFactory = Callable[..., Plan]
LR = "model.optimizer.init_args.lr"
GRID: dict[str, Any] = {LR: [0.01, 0.1], "options.weights": [[1, 1], [1, 2], [2, 1]]}


def test_points_are_all_combinations() -> None:
    assert len(points(GRID)) == 6
    assert points(GRID)[4] == {LR: 0.1, "options.weights": [1, 2]}
    assert points({}) == []


def test_a_setting_changes_just_its_keys() -> None:
    model = {
        "optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": 1.0, "momentum": 0.9}},
        "method": "joint",
    }
    own = Fit({"model": model})
    changed = with_setting(own, points(GRID)[4]).configuration["model"]
    assert changed["optimizer"]["init_args"] == {"lr": 0.1, "momentum": 0.9}
    assert changed["method_options"] == {"weights": [1, 2]}
    assert own.configuration["model"] == model


def test_a_setting_goes_below_the_short_form_of_a_class() -> None:
    short = Fit({"model": {"optimizer": "torch.optim.SGD", "method": "joint", "method_options": None}})
    changed = with_setting(short, points(GRID)[0]).configuration["model"]
    assert changed["optimizer"] == {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.01}}
    assert changed["method_options"] == {"weights": [1, 1]}
    with pytest.raises(ValueError, match=r"a grid goes over model\.heads\.lr, and heads is 3, which has no keys"):
        with_setting(Fit({"model": {"heads": 3}}), {"model.heads.lr": 1})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"held_out": None}, "has a grid and no held_out, the share of training on which to choose; .* never choose"),
        ({"held_out": 0.7}, r"has held_out: 0\.7; give a share of training"),
        ({"grid": {}}, "has held_out and no grid"),
        ({"grid": {LR: [0.1]}}, "has a grid of one point"),
        ({"grid": {LR: 0.1}}, r"has a grid over model\.optimizer\.init_args\.lr of 0\.1; give a list of values"),
        ({"grid": {"model.backbone.init_args.width": [4, 8]}}, "other networks as entries of their own"),
        ({"grid": {"model.method": ["joint", "uw"]}}, "has a grid over 'model.method'; give keys such as"),
        ({"grid": {"trainer.max_epochs": [1, 2]}}, "has a grid over 'trainer.max_epochs'"),
        ({"grid_seeds": 2}, "has grid_seeds: 2; give 1 to 1"),
    ],
)
def test_a_grid_that_cannot_choose_is_refused(tiny: PlanFactory, changes: dict[str, Any], message: str) -> None:
    plan = tiny(methods=[{"method": "joint", "variants": ["plain"], "grid": GRID, "held_out": 0.25, **changes}])
    with pytest.raises(ValueError, match=message):
        plan.check()


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"data": {"class_path": "some_jobs.NothingHeldOut"}}, "cannot hold out a validation split"),
        (
            {"data": {"init_args": {"train_size": 1, "test_size": 8}}},
            r"cannot hold out a validation split of training \(held_out is 0.25, of 1 training sample, which is 0",
        ),
        ({"data": {"init_args": {"held_out": 0.2}}}, "holds out training data by itself; leave out fit.data.init_args"),
        ({"model": {"optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": 1}}}}, "Invalid learning rate"),
    ],
)
def test_a_grid_is_checked_before_any_training(tiny: PlanFactory, sections: dict[str, Any], message: str) -> None:
    entry = {"method": "joint", "variants": ["plain"], "grid": {LR: [0.1, -1.0]}, "held_out": 0.25}
    plan = tiny(fit=fit(**sections), methods=[entry], top=1)
    plan.check()
    with pytest.raises(ValueError, match=message):
        prepare(plan, None)


def test_all_variants_wait_for_the_grid_of_their_entry(tiny: PlanFactory) -> None:
    entry = {"method": "joint", "seeds": [0, 1, 2], "grid": GRID, "held_out": 0.25, "grid_seeds": 2}
    runs = runs_of(tiny(methods=[entry, {"method": "cagrad", "variants": ["plain"]}]))
    grid = [f"joint-grid{point}-seed{seed}" for point in range(6) for seed in (0, 1)]
    assert [run.id for run in runs.values() if run.variant == "grid"] == grid
    assert runs["joint-plain-seed2"].waits_for == (*grid,)
    assert runs["joint-recon-seed1"].waits_for == (*grid, "joint-plain-seed1")
    assert runs["cagrad-plain-seed0"].waits_for == runs["joint-grid0-seed0"].waits_for == ()


def test_held_out_samples_are_not_trained_on() -> None:
    data = holding_out(Fit(fit()), 0.25).data()
    data.setup("fit")
    images = {name: torch.cat([x for x, _ in loader]) for name, loader in data.train_dataloader().items()}
    assert {name: len(own) for name, own in images.items()} == {"train": 6, "validation": 2}
    assert not any(torch.equal(own, other) for own in images["train"] for other in images["validation"])


@pytest.mark.slow
def test_a_longer_grid_trains_its_new_settings_and_what_they_change(
    tiny: PlanFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outcomes, "draw_figures", lambda *arguments: [])

    def plan(*rates: float, **keys: Any) -> Plan:
        optimizer = {"class_path": "torch.optim.SGD", "init_args": {"lr": 1.0}}
        entry = {"method": "joint", "variants": ["plain"], "grid": {LR: [*rates]}, "held_out": 0.25, **keys}
        data = {"init_args": {"train_size": 8, "test_size": 8, "batch_size": 2}}
        return tiny(fit=fit(model={"optimizer": optimizer}, data=data), methods=[entry], top=1, single=False)

    def trained(plan: Plan, out: Path, *reuse: Path) -> list[str]:
        executor = Here()
        benchmark(plan, out, executor=executor, reuse=reuse)
        return executor.begun

    out = tmp_path / "out"
    assert trained(plan(1e-4, 1e38), out) == ["joint-grid0-seed0", "joint-grid1-seed0", "joint-plain-seed0"]
    found = read_object(out / "results.json")["grids"]["joint"]
    assert found["chosen"] == {LR: 1e-4}
    assert [one["score"] for one in found["tried"]] == [0.0, None]
    assert "not finite" in found["tried"][1]["diverged"]
    assert found["tried"][0]["metrics"].keys() == {"digit", "letter"}
    assert found["tried"][1]["metrics"] == {}
    assert "; 1 diverged." in (out / "table.md").read_text()
    assert trained(plan(1e38, 2e38, 1e-4), out) == ["joint-grid1-seed0"]
    assert trained(plan(1e-4, 1e38), tmp_path / "other", out) == []
    with pytest.raises(ValueError, match="all 2 settings of its grid diverged: the loss of task 'digit' is not"):
        trained(plan(1e38, 2e38), out)


def test_settings_of_grids_are_no_rows_of_a_joined_table(
    tiny: PlanFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outcomes, "draw_figures", lambda *arguments: [])
    entry = {"method": "joint", "grid": {"options.weights": [[1, 1], [1, 2]]}, "held_out": 0.25}
    one = tiny(fit=fit(), methods=[entry], top=1, single=False)
    benchmark(one, tmp_path / "one", executor=Here())
    two = tiny(fit=fit(), methods=[{"method": "joint", "seeds": [1]}], top=1, single=False)
    benchmark(two, tmp_path / "two", executor=Here())
    join([tmp_path / "one", tmp_path / "two"], tmp_path / "both")
    runs = read_object(tmp_path / "both" / "results.json")["runs"]
    assert {run["variant"] for run in runs} == {"plain", "recon"}


@pytest.mark.slow
def test_the_best_setting_on_held_out_data_is_trained_on_all_data_and_resumes(
    tiny: PlanFactory, tmp_path: Path
) -> None:
    optimizer = {"class_path": "torch.optim.Adam", "init_args": {"lr": 1.0}}
    size = {"train_size": 1200, "test_size": 100, "batch_size": 16}
    section = fit(model={"optimizer": optimizer}, data={"init_args": size})
    section["trainer"]["max_epochs"] = 3
    entry = {"method": "joint", "seeds": [0, 1], "grid": {LR: [1e-9, 0.003]}, "held_out": 0.25}
    plan = tiny(fit=section, methods=[entry], top=1, single=False)
    report = benchmark(plan, tmp_path, jobs=1)
    results = read_object(tmp_path / "results.json")
    grid = results["grids"]["joint"]
    assert grid["chosen"] == {LR: 0.003}
    assert grid["tried"][0]["score"] < grid["tried"][1]["score"] <= 0
    assert [one["setting"] for one in grid["tried"]] == [{LR: 1e-9}, {LR: 0.003}]
    assert not (tmp_path / "runs" / "joint-grid0-seed0" / "predictions.png").exists()
    assert {run["variant"] for run in results["runs"]} == {"plain", "recon"}
    for run in ("joint-plain-seed1", "joint-recon-seed0"):
        own = read_config(tmp_path / "runs" / run / "config.yaml")
        assert own["model"]["optimizer"]["init_args"]["lr"] == 0.003
        assert "held_out" not in own["data"]["init_args"]
    assert "joint: lr = 0.003, the best of 2 settings on 25% of training held out." in report.table
    before = (tmp_path / "runs" / "joint-grid0-seed0" / "result.json").stat().st_mtime_ns
    (tmp_path / "runs" / "joint-recon-seed0" / "result.json").unlink()
    benchmark(plan, tmp_path, jobs=1)
    assert (tmp_path / "runs" / "joint-grid0-seed0" / "result.json").stat().st_mtime_ns == before


def read_config(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(path.read_text())
    return content
