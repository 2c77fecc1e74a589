"""A run is the same run whatever its plan, its names and the form of its configuration."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from pytorch_lightning import LightningDataModule
from some_jobs import fit, job, runs_of

from recon.branching.task_tree import TaskTree, TreeStage
from recon.experiments import Plan
from recon.experiments.fit import Fit
from recon.experiments.reuse.identity import RunIdentity, data_identity
from recon.experiments.runs import Run
from recon.files.atomic import write_json

PlanFactory = Callable[..., Plan]


@pytest.fixture
def small(tiny: PlanFactory) -> PlanFactory:
    """A plan of LeNet, one layer branched, unless told otherwise."""
    return lambda **changes: tiny(**{"fit": fit(), "top": 1, **changes})


def identity(plan: Plan, run_id: str, content: str | None = None) -> RunIdentity:
    return RunIdentity.of(job(plan, runs_of(plan)[run_id], Path("nowhere")), content)


def plain(plan: Plan, content: str | None = None) -> RunIdentity:
    return identity(plan, "joint-plain-seed0", content)


SGD = {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.1}}


@pytest.mark.parametrize(
    ("section", "one", "other"),
    [
        ("trainer", {"precision": "32-true"}, {"log_every_n_steps": None, "precision": "32-true"}),
        ("trainer", {}, {"devices": 1, "limit_val_batches": 0, "accelerator": "cpu"}),
        ("trainer", {"gradient_clip_val": 1}, {"gradient_clip_val": 1.0}),
        ("trainer", {}, {"enable_progress_bar": True, "default_root_dir": "here"}),
        ("trainer", {}, {"log_every_n_steps": 1, "logger": {"class_path": "TensorBoardLogger"}}),
        ("model", {}, {"backbone": "recon.models.LeNet", "update_scale": "sum"}),
        ("model", {}, {"backbone": {"class_path": "recon.models.LeNet", "init_args": {"features": 50}}}),
        (
            "model",
            {"optimizer": SGD},
            {"optimizer": {"init_args": {"momentum": 0.0, "lr": 0.1}, "class_path": SGD["class_path"]}},
        ),
        ("data", {"init_args": {"train_size": 8}}, {"init_args": {"seed": 0, "train_size": 8, "batch_size": 128}}),
    ],
)
def test_the_order_of_keys_and_defaults_written_out_do_not_count(
    section: str, one: dict[str, Any], other: dict[str, Any], small: PlanFactory
) -> None:
    first, second = (plain(small(fit=fit(**{section: values}))) for values in (one, other))
    assert first.differences(second) == []
    assert first.hash == second.hash
    assert plain(small(fit=fit(trainer={"max_epochs": 9}))).hash != first.hash


def test_the_number_of_processes_that_read_the_data_does_not_count(tmp_path: Path) -> None:
    def of(**arguments: Any) -> RunIdentity:
        data = {"class_path": "recon.data.NYUv2", "init_args": {"root": "here", "batch_size": 4, **arguments}}
        return RunIdentity.of_configuration({**fit(), "data": data}, data=None, every=1)

    assert of(num_workers=4).hash == of(num_workers=0).hash == of().hash != of(augment=False).hash
    record = of().record
    written = {**record, "data": {**record["data"], "init_args": {"batch_size": 4, "num_workers": 4}}}
    write_json(tmp_path / "identity.json", RunIdentity(written).sealed())  # by a version that counted it
    assert RunIdentity.load(tmp_path / "identity.json").hash == of().hash


def test_a_run_whose_identity_counted_its_logs_is_the_same(small: PlanFactory, tmp_path: Path) -> None:
    now = plain(small())
    record = {**now.record, "trainer": {**now.record["trainer"], "log_every_n_steps": 10}}
    write_json(tmp_path / "identity.json", RunIdentity(record).sealed())  # by an earlier version
    assert RunIdentity.load(tmp_path / "identity.json").hash == now.hash


def test_neither_the_spelling_of_a_method_nor_its_defaults_count(small: PlanFactory) -> None:
    def cagrad(name: str, **options: Any) -> RunIdentity:
        entry = {"method": name, "options": options, "name": "it", "variants": ["plain"]}
        return identity(small(methods=[entry]), "it-plain-seed0")

    assert cagrad("cagrad").hash == cagrad("CAGrad", c=0.5, rescale=1).hash
    assert cagrad("cagrad").differences(cagrad("cagrad", c=0.2)) == ["model.method_options"]


@pytest.mark.parametrize(
    ("changes", "differing"),
    [
        ({"fit": fit(trainer={"max_epochs": 3})}, "trainer.max_epochs"),
        ({"fit": fit(trainer={"accelerator": "auto"})}, "trainer.accelerator"),
        ({"fit": fit(model={"update_scale": "mean"})}, "model.update_scale"),
        ({"fit": fit(data={"init_args": {"train_size": 9, "test_size": 8}})}, "data.init_args.train_size"),
        ({"every": 2}, "every"),
        ({"init": "reset"}, "model.branch.init"),
        ({"statistics": "per_task"}, "model.branch.statistics"),
    ],
)
def test_a_key_that_changes_a_run_makes_it_another(changes: dict[str, Any], differing: str, small: PlanFactory) -> None:
    assert plain(small()).differences(plain(small(**changes))) == [differing]


@pytest.mark.parametrize(
    "changes",
    [{"name": "renamed"}, {"top": 2}, {"severity": -0.2}, {"single": False}, {"methods": [{"method": "joint"}]}],
)
def test_a_key_that_does_not_concern_a_run_leaves_it_the_same(changes: dict[str, Any], small: PlanFactory) -> None:
    assert plain(small()).hash == plain(small(**changes)).hash


def test_single_tasks_observe_no_conflicts_and_have_no_branches(small: PlanFactory) -> None:
    one, other = (identity(small(**keys), "single-digit-seed0") for keys in ({}, {"every": 3, "init": "reset"}))
    assert one.hash == other.hash != identity(small(), "single-letter-seed0").hash


def test_the_layers_that_are_branched_count_and_not_how_they_were_chosen(small: PlanFactory) -> None:
    plan = small(methods=[{"method": "joint", "variants": ["plain", "first", "last"]}])
    first, last = (identity(plan, f"joint-{variant}-seed0") for variant in ("first", "last"))
    assert first.differences(last) == ["model.branch.layers"]
    assert first.hash == identity(replace(plan, severity=-0.3), "joint-first-seed0").hash


def test_the_file_of_a_task_tree_counts(small: PlanFactory, tmp_path: Path) -> None:
    stage = TreeStage("conv1", (("digit",), ("letter",)), ("conv1",))
    entry = {"method": "joint", "name": "bmtas", "tree": str(tmp_path / "tree.json"), "variants": ["plain"]}
    found = []
    for seed in (0, 1):
        TaskTree(("digit", "letter"), (stage,), provenance={"seed": seed}).save(tmp_path / "tree.json")
        found.append(identity(small(methods=[entry]), "bmtas-plain-seed0"))
    assert found[0].differences(found[1]) == ["tree"]


# Data -----------------------------------------------------------------------------------------------------------------


class Files(LightningDataModule):
    """Data of one file."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.root = root

    def files_read(self) -> dict[str, Path]:
        return {"labels": self.root / "labels"}


@dataclass(frozen=True)
class Given(Fit):
    """A fit on data that no configuration names."""

    given: LightningDataModule = field(default_factory=LightningDataModule)

    def data(self) -> LightningDataModule:
        return self.given


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of data, and a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = tmp_path / "data"
    root.mkdir()
    (root / "labels").write_bytes(b"0123456789")
    return root


def test_the_same_data_elsewhere_make_the_same_run_and_others_do_not(root: Path, small: PlanFactory) -> None:
    def on(folder: Path) -> RunIdentity:
        section = fit(data={"init_args": {"train_size": 8, "root": str(folder)}})
        plan = small(fit=section)
        run: Run = runs_of(plan)["joint-plain-seed0"]
        return RunIdentity.of(job(plan, run, Path()), data_identity(Given(section, str(folder), Files(folder))))

    before = on(root)
    elsewhere = shutil.copytree(root, root.with_name("elsewhere"))
    assert on(elsewhere).hash == before.hash
    (elsewhere / "labels").write_bytes(b"9123456789")
    assert on(elsewhere).differences(before) == ["content"]


def test_data_that_do_not_list_their_files_are_known_by_their_folder(root: Path) -> None:
    assert data_identity(Given(fit(), str(root))) == str(root)
    assert data_identity(Given(fit())) is None
