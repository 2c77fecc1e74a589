"""One run, in this process; the tests of the launch start worker processes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from some_jobs import ALL, carry_out, configuration_of, fit, prepare, run_directory, runs_of, weights

from recon.branching.task_tree import TaskTree, TreeStage
from recon.conflict import ConflictMap
from recon.data import Glyphs
from recon.experiments import Plan
from recon.experiments.folder import ResultsFolder
from recon.experiments.result import RESULT
from recon.files.checksum import sealed
from recon.gradients import shared_layers
from recon.models import LeNet, ResNet18
from recon.training.command import TrainingCLI

PlanFactory = Callable[..., Plan]
Searched = tuple[Plan, Path, dict[str, Any]]


def without_time(result: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in result.items() if key not in ("seconds", "origin")}


class Interrupted(Exception):
    pass


class Code:
    """Unpickled, it makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Path]]:
        return Path.mkdir, (self.folder,)


def test_code_in_the_checkpoint_that_a_run_goes_on_from_does_not_run(tiny: PlanFactory, tmp_path: Path) -> None:
    directory = run_directory(tmp_path, "joint-plain-seed0")
    directory.mkdir(parents=True)
    content = {"state_dict": {}, "epoch": 0, "global_step": 0, "callbacks": Code(tmp_path / "executed")}
    torch.save(content, directory / "last.ckpt")
    with pytest.raises(ValueError, match="holds more than data, which is not loaded"):
        carry_out(tiny(methods=ALL), "joint-plain-seed0", tmp_path)
    assert not (tmp_path / "executed").exists()


def test_a_run_leaves_configuration_checkpoint_log_map_and_result(searched: Searched) -> None:
    plan, out, result = searched
    directory = run_directory(out, "joint-plain-seed0")
    files = {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}
    logs = {f"logs/version_0/{name}" for name in ("metrics.csv", "hparams.yaml")}
    assert files == {"config.yaml", "last.ckpt", "conflict_map.json", "result.json", *logs}
    assert json.loads((directory / "result.json").read_text()) == sealed(result)
    assert ResultsFolder(out).finished(runs_of(plan)["joint-plain-seed0"], Glyphs().tasks) == result


def test_a_result_says_what_the_run_came_to(searched: Searched) -> None:
    _, out, result = searched
    assert tuple(result) == RESULT
    assert (result["id"], result["method"], result["variant"], result["seed"]) == (
        "joint-plain-seed0",
        "joint",
        "plain",
        0,
    )
    assert {task: list(values) for task, values in result["metrics"].items()} == {
        "digit": ["accuracy"],
        "letter": ["accuracy"],
    }
    heads = 2 * (100 * 10 + 10)
    parameters = sum(p.numel() for p in ResNet18(width=4).parameters()) + heads
    assert result["parameters"] == result["parameters_base"] == parameters
    assert result["flops"] > 0
    rates = result["conflict_by_layer"]
    assert rates == ConflictMap.load(run_directory(out, "joint-plain-seed0") / "conflict_map.json").rates(0.0)
    assert result["conflict_rate"] == pytest.approx(sum(rates.values()) / len(rates))
    assert result["seconds"] > 0


def test_a_branched_run_grows_and_is_observed_where_it_is_still_shared(searched: Searched) -> None:
    plan, out, plain = searched
    result = carry_out(plan, "joint-recon-seed0", out)
    branched = ConflictMap.load(run_directory(out, "joint-plain-seed0") / "conflict_map.json").top(4, -0.1)
    assert set(plain["conflict_by_layer"]) - set(result["conflict_by_layer"]) == set(branched)
    backbone = ResNet18(width=4)
    growth = sum(p.numel() for layer in branched for p in backbone.get_submodule(layer).parameters())
    assert result["parameters"] == plain["parameters"] + growth
    assert result["parameters_base"] == plain["parameters"]
    assert result["flops"] > plain["flops"]


def test_a_single_task_run_has_one_task_and_no_conflict(searched: Searched) -> None:
    plan, out, plain = searched
    result = carry_out(plan, "single-letter-seed0", out)
    assert list(result["metrics"]) == ["letter"]
    assert (result["method"], result["variant"]) == ("single", "single")
    assert result["conflict_by_layer"] == {}
    assert result["conflict_rate"] is None
    assert result["parameters"] == result["parameters_base"] == plain["parameters"] - (100 * 10 + 10)


def test_recon_search_with_the_configuration_of_a_run_repeats_it(
    searched: Searched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, out, _ = searched
    monkeypatch.chdir(tmp_path)
    config = str(run_directory(out, "joint-plain-seed0") / "config.yaml")
    quiet = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false", "--trainer.logger=false"]
    repeated = TrainingCLI(["search", "--config", config, *quiet]).model.state_dict()
    expected = weights(out, "joint-plain-seed0")
    assert [name for name in expected if not torch.equal(repeated[name], expected[name])] == []


@pytest.mark.parametrize("run_id", ["joint-plain-seed0", "graddrop-plain-seed0"])
def test_an_interrupted_run_goes_on_to_the_same_result(run_id: str, tiny: PlanFactory, tmp_path: Path) -> None:
    plan = tiny(methods=ALL)
    whole = carry_out(plan, run_id, tmp_path / "whole")
    epochs: list[int] = []

    def interrupt(epoch: int) -> None:
        epochs.append(epoch)
        # The report of an epoch comes before its checkpoint, so the second epoch is lost.
        if epoch == 2 and len(epochs) < 4:
            raise Interrupted

    out = tmp_path / "parts"
    with pytest.raises(Interrupted):
        carry_out(plan, run_id, out, interrupt)
    assert ResultsFolder(out).finished(runs_of(plan)[run_id], Glyphs().tasks) is None
    resumed = carry_out(plan, run_id, out, interrupt)
    assert epochs == [0, 1, 2, 1, 2]
    assert without_time(resumed) == without_time(whole)
    expected, state = weights(tmp_path / "whole", run_id), weights(out, run_id)
    assert all(torch.equal(state[name], expected[name]) for name in expected if "extra_state" not in name)


def test_a_run_that_ended_between_training_and_test_is_only_tested(searched: Searched, tmp_path: Path) -> None:
    plan, out, result = searched
    directory = run_directory(tmp_path, "joint-plain-seed0")
    directory.mkdir(parents=True)
    (directory / "last.ckpt").write_bytes((run_directory(out, "joint-plain-seed0") / "last.ckpt").read_bytes())
    epochs: list[int] = []
    again = carry_out(plan, "joint-plain-seed0", tmp_path, epochs.append)
    assert epochs == []
    assert without_time(again) == without_time(result)
    assert again["seconds"] > result["seconds"] / 2  # the time before the interruption counts


def test_an_entry_may_take_its_gradients_at_the_representation(tiny: PlanFactory, tmp_path: Path) -> None:
    entries = [{"method": "mgda", "variants": ["plain"]}]
    entries += [{**entries[0], "name": "mgda_ub", "at": "representation"}]
    plan = tiny(methods=entries)
    plan.check()
    prepare(plan, None)
    results = {run: carry_out(plan, run, tmp_path) for run in ("mgda-plain-seed0", "mgda_ub-plain-seed0")}
    first, second = (weights(tmp_path, run) for run in results)
    assert not all(torch.equal(first[key], second[key]) for key in first)
    assert results["mgda_ub-plain-seed0"]["conflict_by_layer"]


def test_an_entry_may_weigh_the_tasks_in_groups_of_layers(tiny: PlanFactory, tmp_path: Path) -> None:
    entry = {"method": "modo", "variants": ["plain", "first"]}
    layers = {**entry, "name": "by_layer", "granularity": "layer"}
    groups = {**entry, "name": "in_groups", "granularity": {"stem": ["conv1"]}}
    plan = tiny(methods=[layers, groups], top=1)
    plan.check()
    prepare(plan, None)
    shapes = {}
    for run in ("by_layer-plain-seed0", "by_layer-first-seed0", "in_groups-plain-seed0", "in_groups-first-seed0"):
        carry_out(plan, run, tmp_path)
        shapes[run] = tuple(weights(tmp_path, run)["method.simplex_weights"].shape)
    layers = len(shared_layers(ResNet18(width=4)))
    assert [*shapes.values()] == [(layers, 2), (layers - 1, 2), (2, 2), (1, 2)]


def test_an_entry_may_train_another_network_than_the_plan(tiny: PlanFactory, tmp_path: Path) -> None:
    model = {"backbone": {"class_path": "recon.models.LeNet", "init_args": {"features": 9}}}
    lenet = {"method": "joint", "name": "lenet", "model": model, "variants": ["plain", "recon"]}
    plan = tiny(methods=[{"method": "joint", "variants": ["plain"]}, lenet], top=1)
    plan.check()
    prepare(plan, None)
    plain, branched = (carry_out(plan, f"lenet-{variant}-seed0", tmp_path) for variant in ("plain", "recon"))
    heads = 2 * (9 * 10 + 10)
    assert plain["parameters"] == sum(p.numel() for p in LeNet(features=9).parameters()) + heads
    assert set(plain["conflict_by_layer"]) == {"conv1", "conv2", "fc"}
    assert len(branched["conflict_by_layer"]) == 2


RESNET = {"class_path": "recon.models.ResNet18", "init_args": {"width": 2, "features": 5}}
ARCHITECTURES: dict[str, tuple[dict[str, Any], int, str]] = {
    "hard_sharing": ({"class_path": "recon.models.hard_sharing", "init_args": {"backbone": RESNET}}, 1, "fc"),
    "cross_stitch": (
        {"class_path": "recon.models.CrossStitch", "init_args": {"backbone": RESNET, "stages": {"layer1": 2}}},
        2,
        "networks.letter.fc",
    ),
    "mmoe": (
        {"class_path": "recon.models.MMoE", "init_args": {"expert": RESNET, "experts": 3, "gate_inputs": 36 * 36}},
        3,
        "experts.2.fc",
    ),
}
"""Each with the number of ResNets whose 41 layers it shares, and the name of one layer."""


@pytest.mark.slow
def test_one_plan_compares_architectures_plain_and_with_recon(tiny: PlanFactory, tmp_path: Path) -> None:
    entries = [
        {"method": "joint", "name": name, "model": {"backbone": backbone}, "variants": ["plain", "recon"]}
        for name, (backbone, _, _) in ARCHITECTURES.items()
    ]
    plan = tiny(methods=entries, top=3)
    plan.check()
    prepare(plan, None)
    single = carry_out(plan, "single-digit-seed0", tmp_path)
    assert single["parameters"] == sum(p.numel() for p in ResNet18(width=4).parameters()) + 100 * 10 + 10
    for name, (_, networks, layer) in ARCHITECTURES.items():
        plain, branched = (carry_out(plan, f"{name}-{variant}-seed0", tmp_path) for variant in ("plain", "recon"))
        found = ConflictMap.load(run_directory(tmp_path, f"{name}-plain-seed0") / "conflict_map.json")
        assert len(found.layers) == 41 * networks and layer in found.layers
        assert branched["parameters_base"] == plain["parameters"] < branched["parameters"]
        own = configuration_of(plan, runs_of(plan)[f"{name}-recon-seed0"], tmp_path)["model"]["branch"]["layers"]
        assert own == found.top(3, plan.severity)
        assert set(branched["conflict_by_layer"]) == set(found.layers) - set(own)
        assert set(weights(tmp_path, f"{name}-recon-seed0")) > {f"heads.{task}.weight" for task in ("digit", "letter")}


def test_recon_goes_on_top_of_a_task_tree(tiny: PlanFactory, tmp_path: Path) -> None:
    tree = tmp_path / "tree.json"
    TaskTree(("digit", "letter"), (TreeStage("conv2", (("digit",), ("letter",)), ("conv2",)),)).save(tree)
    entry = {"method": "joint", "name": "bmtas", "tree": str(tree), "variants": ["plain", "recon", "last"]}
    plan = tiny(fit=fit(), methods=[entry], top=1, single=False)
    plan.check()
    prepare(plan, None)
    plain, branched = (carry_out(plan, f"bmtas-{variant}-seed0", tmp_path) for variant in ("plain", "recon"))
    found = ConflictMap.load(run_directory(tmp_path, "bmtas-plain-seed0") / "conflict_map.json")
    assert set(found.layers) == set(plain["conflict_by_layer"]) == {"conv1", "fc"}
    assert plain["parameters"] == plain["parameters_base"] == branched["parameters_base"] < branched["parameters"]
    [worst] = found.top(1, plan.severity)
    assert set(branched["conflict_by_layer"]) == {"conv1", "fc"} - {worst}
    assert {f"backbone.branches.letter.{layer}.weight" for layer in ("conv2", worst)} <= weights(
        tmp_path, "bmtas-recon-seed0"
    ).keys()
    last = configuration_of(plan, runs_of(plan)["bmtas-last-seed0"], tmp_path)["model"]["branch"]
    assert last["layers"] == ["fc", "conv2"] and last["groups"] == {"conv2": [["digit"], ["letter"]]}
    with pytest.raises(ValueError, match=r"top=2 would branch all 2 shared layers"):
        prepare(tiny(fit=fit(), methods=[entry], top=2, single=False), None)
    TaskTree(("a", "b"), (TreeStage("conv2", (("a",), ("b",)), ("conv2",)),)).save(tree)
    with pytest.raises(ValueError, match="is of the tasks a, b, and does not fit digit, letter; search with these"):
        prepare(plan, None)


def test_a_run_without_a_step_or_with_a_metric_that_is_no_number_has_no_result(
    tiny: PlanFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pytorch_lightning.Trainer.test", lambda *_, **__: [{"test/digit/accuracy": float("nan")}])
    with pytest.raises(ValueError, match=r"the test gave digit/accuracy = nan, which is no result"):
        carry_out(tiny(fit=fit()), "joint-plain-seed0", tmp_path)
    monkeypatch.setattr("pytorch_lightning.Trainer.fit", lambda *_, **__: None)
    with pytest.raises(ValueError, match="no step was taken"):
        carry_out(tiny(fit=fit()), "joint-plain-seed0", tmp_path / "other")


def test_the_configuration_is_written_as_it_was_run(searched: Searched) -> None:
    plan, out, _ = searched
    configuration = yaml.safe_load((run_directory(out, "joint-plain-seed0") / "config.yaml").read_text())
    assert configuration == configuration_of(plan, runs_of(plan)["joint-plain-seed0"], out)
    assert configuration["seed_everything"] == 0


@pytest.mark.parametrize("method", ["moml", "auto_lambda", "forum"])
def test_methods_of_validation_batches_run_in_a_plan_with_held_out_data(
    method: str, tiny: PlanFactory, tmp_path: Path
) -> None:
    data = {"class_path": "recon.data.Glyphs", "init_args": {"train_size": 48, "test_size": 64, "batch_size": 16}}
    data["init_args"] |= {"held_out": 0.25}  # type: ignore[operator]
    trained = fit(data=data, trainer={"max_epochs": 1, "accelerator": "cpu"})
    plan = tiny(fit=trained, methods=[{"method": method, "variants": ["plain"]}])
    prepare(plan, None)
    result = carry_out(plan, f"{method}-plain-seed0", tmp_path)
    assert result["metrics"].keys() == {"digit", "letter"}
