"""One run, in this process; the runner's own tests start worker processes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from recon.conflict import ConflictMap
from recon.data import Glyphs
from recon.experiments import Plan
from recon.experiments.cost import flops_of_sample
from recon.experiments.fit import Fit
from recon.experiments.folder import ResultsFolder
from recon.experiments.job import Job
from recon.experiments.plan import Run
from recon.experiments.preflight import check_before_training
from recon.experiments.result import RESULT
from recon.experiments.run import execute
from recon.files.checksum import sealed
from recon.models import LeNet, ResNet18
from recon.tasks.task import Task
from recon.training import MultiTaskModule
from recon.training.command import TrainingCLI

PlanFactory = Callable[..., Plan]
ALL = [{"method": "joint", "variants": ["plain", "recon", "random", "first", "last"]}, {"method": "graddrop"}]


def runs_of(plan: Plan) -> dict[str, Run]:
    return {run.id: run for run in plan.runs(["digit", "letter"])}


def silent(epoch: int) -> None: ...


def run_directory(out: Path, run_id: str) -> Path:
    return ResultsFolder(out).run(run_id)


def job(plan: Plan, run: Run, out: Path) -> Job:
    return Job(plan, run, Fit(plan.fit), ResultsFolder(out))


def configuration_of(plan: Plan, run: Run, out: Path) -> dict[str, Any]:
    return job(plan, run, out).own_fit().configuration


def prepare(plan: Plan, root: str | None) -> list[Task]:
    return check_before_training(plan, Fit(plan.fit, root))


def carry_out(plan: Plan, run_id: str, out: Path, on_epoch: Callable[[int], None] = silent) -> dict[str, Any]:
    return execute(job(plan, runs_of(plan)[run_id], out), on_epoch)


def weights(out: Path, run_id: str) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(run_directory(out, run_id) / "last.ckpt")["state_dict"]
    return state


def without_time(result: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in result.items() if key != "seconds"}


class Interrupted(Exception):
    pass


@pytest.fixture(scope="module")
def searched(tiny: PlanFactory, tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Path, dict[str, Any]]:
    """A folder in which the plain joint run is finished."""
    plan, out = tiny(methods=ALL), tmp_path_factory.mktemp("searched")
    return plan, out, carry_out(plan, "joint-plain-seed0", out)


Searched = tuple[Plan, Path, dict[str, Any]]


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
    assert files == {"config.yaml", "last.ckpt", "conflict_map.json", "logs/version_0/metrics.csv", "result.json"}
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


def test_flops_are_those_of_one_sample_and_a_multiply_add_is_two() -> None:
    module = MultiTaskModule(LeNet(), Glyphs().tasks)
    convolutions = 28**2 * 10 * 9**2 + 10**2 * 20 * 10 * 5**2
    linear = 20 * 5 * 5 * 50 + 2 * 50 * 10
    assert flops_of_sample(module, Glyphs()) == 2 * (convolutions + linear)


def test_recon_branches_the_top_of_its_seeds_map_and_controls_branch_as_many(searched: Searched) -> None:
    plan, out, _ = searched
    found = ConflictMap.load(run_directory(out, "joint-plain-seed0") / "conflict_map.json")
    branched = {}
    for variant in ("recon", "random", "first", "last"):
        configuration = configuration_of(plan, runs_of(plan)[f"joint-{variant}-seed0"], out)
        branched[variant] = configuration["model"]["branch"]["layers"]
        assert len(branched[variant]) == 4
    assert branched["recon"] == found.top(4, -0.1)
    assert branched["first"] == list(found.layers[:4])
    assert branched["last"] == list(found.layers[-4:])
    graddrop = configuration_of(plan, runs_of(plan)["graddrop-recon-seed0"], out)
    assert graddrop["model"]["branch"]["layers"] == branched["recon"]
    assert graddrop["model"]["method"] == "graddrop"


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


# What is found out before any training --------------------------------------------------------------------------------


def fit(**sections: Any) -> dict[str, Any]:
    tiny: dict[str, Any] = {
        "trainer": {"max_epochs": 1, "accelerator": "cpu"},
        "model": {"backbone": {"class_path": "recon.models.LeNet"}},
        "data": {"class_path": "recon.data.Glyphs", "init_args": {"train_size": 8, "test_size": 8}},
    }
    return {key: {**tiny[key], **sections.get(key, {})} for key in tiny}


@pytest.mark.parametrize(
    ("configuration", "message"),
    [
        (fit(trainer={"max_epoch": 2}), r"fit: unknown option 'trainer\.max_epoch'; nearest: 'trainer\.max_epochs'"),
        (fit(model={"optimiser": 1}), r"fit: unknown option 'model\.optimiser'; nearest: 'model\.optimizer'"),
        (
            fit(trainer={"limit_test_batches": 0.1}),
            r"fit\.trainer\.limit_test_batches is 0\.1, of 1 batches, which is none",
        ),
        (
            fit(model={"optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": -1.0}}}),
            "Invalid learning rate",
        ),
        (fit(trainer={"accelerator": "tpuu"}), "invalid accelerator name: .*'tpuu'"),
        (fit(data={"class_path": "recon.data.Glyphz"}), "fit.data: recon.data.Glyphz: .*no attribute 'Glyphz'"),
        (
            fit(data={"init_args": {"train_siz": 3}}),
            "fit.data: recon.data.Glyphs: unknown option 'train_siz'; nearest: 'train_size'",
        ),
        (
            fit(model={"backbone": {"class_path": "recon.models.LeNet", "init_args": {"featurs": 3}}}),
            "fit.model.backbone: recon.models.LeNet: unknown option 'featurs'; nearest: 'features'",
        ),
        (
            fit(data={"class_path": "recon.data.MultiFashionMNIST", "init_args": {}}),
            r"fit\.data: .* required: root \(--data gives the root\)",
        ),
        (
            fit(data={"class_path": "recon.data.MultiFashionMNIST", "init_args": {"root": "/dev/null/nowhere"}}),
            "/dev/null/nowhere/MNIST/raw lacks .*; put the files of MNIST there",
        ),
        (
            fit(data={"class_path": "pytorch_lightning.demos.boring_classes.BoringDataModule", "init_args": {}}),
            "BoringDataModule has no tasks; give data whose attribute `tasks`",
        ),
    ],
)
def test_a_configuration_that_cannot_work_is_refused(configuration: Any, message: str, tiny: PlanFactory) -> None:
    with pytest.raises(ValueError, match=message):
        prepare(tiny(fit=configuration), None)


def test_a_root_for_data_that_read_none_is_refused(tiny: PlanFactory) -> None:
    with pytest.raises(ValueError, match=r"fit\.data: recon\.data\.Glyphs: unknown option 'root'"):
        prepare(tiny(), "some/folder")


def test_methods_for_another_number_of_tasks_are_refused(tiny: PlanFactory) -> None:
    with pytest.raises(ValueError, match="joint: weights holds 3 numbers for 2 tasks"):
        prepare(tiny(methods=[{"method": "joint", "options": {"weights": [1, 1, 1]}, "variants": ["plain"]}]), None)


def test_data_are_looked_at_before_pretrained_weights_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", pytest.fail)
    plan = Plan.load(Path(__file__).parents[2] / "configs/nyuv2/resnet50.yaml")
    with pytest.raises(ValueError, match=r"there is no folder .*recon data prepare nyuv2"):
        prepare(plan, str(tmp_path))


def test_a_map_of_another_network_or_severity_is_refused(
    tiny: PlanFactory, searched: Searched, lenet_map: Path, tmp_path: Path
) -> None:
    ConflictMap.import_scores(lenet_map, -0.1).save(tmp_path / "lenet_map.json")
    with pytest.raises(ValueError, match=r"conflict map of lenet\.json does not fit"):
        prepare(tiny(map=str(tmp_path / "lenet_map.json")), None)
    with pytest.raises(FileNotFoundError, match=r"nowhere\.json"):
        prepare(tiny(map="nowhere.json"), None)
    own = ConflictMap.load(run_directory(searched[1], "joint-plain-seed0") / "conflict_map.json")
    (tmp_path / "published.json").write_text(json.dumps(own.scores(0.0)))
    ConflictMap.import_scores(tmp_path / "published.json", 0.0).save(tmp_path / "map.json")
    with pytest.raises(ValueError, match=r"severity -0\.1 of a map imported at severity 0\.0"):
        prepare(tiny(map=str(tmp_path / "map.json"), severity=-0.1), None)
    assert [task.name for task in prepare(tiny(map=str(tmp_path / "map.json"), severity=0), None)] == [
        "digit",
        "letter",
    ]


def test_a_map_file_takes_the_place_of_the_plans_own_search(
    tiny: PlanFactory, searched: Searched, tmp_path: Path
) -> None:
    path = run_directory(searched[1], "joint-plain-seed0") / "conflict_map.json"
    plan = tiny(methods=[{"method": "cagrad", "variants": ["recon"]}], map=str(path))
    plan.check()
    configuration = configuration_of(plan, runs_of(plan)["cagrad-recon-seed0"], tmp_path)
    assert configuration["model"]["branch"]["layers"] == ConflictMap.load(path).top(4, -0.1)


def test_a_plan_takes_a_published_ranking_by_its_name(tiny: PlanFactory, tmp_path: Path) -> None:
    name = "multi-fashion-mnist-resnet18"
    plan = tiny(methods=[{"method": "cagrad", "variants": ["recon"]}], map=name)
    plan.check()
    prepare(plan, None)
    configuration = configuration_of(plan, runs_of(plan)["cagrad-recon-seed0"], tmp_path)
    assert configuration["model"]["branch"]["layers"] == ConflictMap.load(name).top(4, -0.1)


def test_one_plan_compares_its_own_map_with_one_found_elsewhere(
    tiny: PlanFactory, searched: Searched, tmp_path: Path
) -> None:
    path = run_directory(searched[1], "joint-plain-seed0") / "conflict_map.json"
    elsewhere = {"method": "joint", "name": "joint-elsewhere", "variants": ["recon"], "map": str(path)}
    plan = tiny(methods=[{"method": "joint", "variants": ["plain", "recon"]}, elsewhere])
    plan.check()
    assert plan.maps == [str(path)]
    needs = {run.id: run.needs for run in runs_of(plan).values()}
    assert needs["joint-recon-seed0"] == "joint-plain-seed0"
    assert needs["joint-elsewhere-recon-seed0"] is None
    configuration = configuration_of(plan, runs_of(plan)["joint-elsewhere-recon-seed0"], tmp_path)
    assert configuration["model"]["branch"]["layers"] == ConflictMap.load(path).top(4, -0.1)
    with pytest.raises(FileNotFoundError, match=r"nowhere\.json"):
        prepare(tiny(methods=[{**elsewhere, "map": "nowhere.json"}]), None)


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


def test_an_entry_may_train_another_network_than_the_plan(tiny: PlanFactory, tmp_path: Path) -> None:
    def lenet(**more: Any) -> dict[str, Any]:
        model = {"backbone": {"class_path": "recon.models.LeNet", "init_args": {"features": 9}}}
        return {"method": "joint", "name": "lenet", "model": model, **more}

    plan = tiny(methods=[{"method": "joint", "variants": ["plain"]}, lenet(variants=["plain", "recon"])], top=1)
    plan.check()
    prepare(plan, None)
    plain, branched = (carry_out(plan, f"lenet-{variant}-seed0", tmp_path) for variant in ("plain", "recon"))
    heads = 2 * (9 * 10 + 10)
    assert plain["parameters"] == sum(p.numel() for p in LeNet(features=9).parameters()) + heads
    assert set(plain["conflict_by_layer"]) == {"conv1", "conv2", "fc"}
    assert len(branched["conflict_by_layer"]) == 2
    with pytest.raises(ValueError, match="top=4 would branch all 3 shared layers"):
        prepare(tiny(methods=[lenet(variants=["first"])]), None)
    with pytest.raises(ValueError, match=r"unknown option 'model\.bakcbone'; nearest: 'model\.backbone'"):
        prepare(tiny(methods=[lenet(model={"bakcbone": 3}, variants=["plain"])], single=False), None)


def test_branching_every_layer_is_refused(tiny: PlanFactory) -> None:
    with pytest.raises(ValueError, match="top=41 would branch all 41 shared layers"):
        prepare(tiny(methods=ALL, top=41), None)
    prepare(tiny(top=41), None)  # nothing is branched


def test_random_layers_are_never_just_the_ones_that_the_map_selects(tiny: PlanFactory, tmp_path: Path) -> None:
    """A network of three layers, one of which is branched: a third of the draws would be the same run twice."""
    (tmp_path / "map.json").write_text(json.dumps({"conv1": 1, "conv2": 3, "fc": 2}))
    plan = tiny(
        fit=fit(),
        top=1,
        map=str(tmp_path / "map.json"),
        methods=[{"method": "joint", "variants": ["recon", "random"], "seeds": list(range(12))}],
    )
    drawn = [
        configuration_of(plan, run, tmp_path)["model"]["branch"]["layers"]
        for run in plan.runs([])
        if run.variant == "random"
    ]
    assert len(drawn) == 12
    assert {layer for layers in drawn for layer in layers} == {"conv1", "fc"}


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
