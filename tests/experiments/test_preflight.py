"""What is refused before any training."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from some_jobs import ALL, fit, prepare, run_directory

from recon.conflict import ConflictMap
from recon.experiments import Plan

PlanFactory = Callable[..., Plan]
Searched = tuple[Plan, Path, dict[str, Any]]


@pytest.mark.parametrize(
    ("configuration", "message"),
    [
        (fit(trainer={"max_epoch": 2}), r"fit: unknown option 'trainer\.max_epoch'; nearest: 'trainer\.max_epochs'"),
        (fit(model={"optimiser": 1}), r"fit: unknown option 'model\.optimiser'; nearest: 'model\.optimizer'"),
        (
            fit(trainer={"limit_test_batches": 0.1}),
            r"fit\.trainer\.limit_test_batches is 0\.1, of 1 batch, which is none",
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


def test_methods_that_need_whole_batches_are_refused_where_the_trainer_divides_them(tiny: PlanFactory) -> None:
    divided = fit(trainer={"accumulate_grad_batches": 2, "gradient_clip_val": 1.0, "precision": "16-mixed"})
    methods = [{"method": name, "variants": ["plain"]} for name in ("joint", "famo")]
    prepare(tiny(fit=divided, methods=methods[:1]), None)
    with pytest.raises(TypeError, match="FAMO evaluates the losses of the whole batch again in its step"):
        prepare(tiny(fit=divided, methods=methods), None)


def test_methods_that_work_in_one_process_are_refused_where_the_trainer_starts_several(tiny: PlanFactory) -> None:
    two = fit(trainer={"devices": 2, "strategy": "ddp"})
    fmtl = {"method": "fmtl", "options": {"method": "mgda", "rho": 0.1}, "variants": ["plain"]}
    prepare(tiny(fit=two, methods=[{"method": "joint", "variants": ["plain"]}]), None)
    with pytest.raises(TypeError, match="FMTL works in one process only, and this run has 2"):
        prepare(tiny(fit=two, methods=[fmtl]), None)
    with pytest.raises(RuntimeError, match="memory='gramian' works in one process"):
        prepare(tiny(fit=two, methods=[{"method": "mgda", "memory": "gramian", "variants": ["plain"]}]), None)


def test_an_entry_that_holds_no_task_gradients_needs_whole_batches(tiny: PlanFactory) -> None:
    divided = fit(trainer={"accumulate_grad_batches": 2})
    with pytest.raises(ValueError, match="memory='gramian' takes whole batches"):
        prepare(tiny(fit=divided, methods=[{"method": "mgda", "memory": "gramian", "variants": ["plain"]}]), None)


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


def test_branching_every_layer_is_refused(tiny: PlanFactory) -> None:
    with pytest.raises(ValueError, match="top=41 would branch all 41 shared layers"):
        prepare(tiny(methods=ALL, top=41), None)
    with pytest.raises(ValueError, match="top=41 would branch all 41 shared layers"):
        prepare(tiny(methods=[{"method": "joint", "variants": ["plain", "first"], "top": 41}]), None)
    prepare(tiny(top=41), None)  # nothing is branched


def test_the_networks_of_entries_are_looked_at_too(tiny: PlanFactory) -> None:
    def entry(model: dict[str, Any], *variants: str) -> dict[str, Any]:
        return {"method": "joint", "name": "other", "model": model, "variants": variants}

    lenet = {"backbone": {"class_path": "recon.models.LeNet"}}
    with pytest.raises(ValueError, match="top=4 would branch all 3 shared layers"):
        prepare(tiny(methods=[*ALL, entry(lenet, "first")]), None)
    with pytest.raises(ValueError, match=r"unknown option 'model\.bakcbone'; nearest: 'model\.backbone'"):
        prepare(tiny(methods=[*ALL, entry({"bakcbone": 3}, "plain")]), None)


def test_a_method_that_needs_validation_batches_is_refused_without_them(tiny: PlanFactory) -> None:
    plan = tiny(methods=[{"method": "joint", "variants": ["plain"]}, {"method": "moml", "variants": ["plain"]}])
    with pytest.raises(ValueError, match="MOML learns its weights from a validation batch"):
        prepare(plan, None)
