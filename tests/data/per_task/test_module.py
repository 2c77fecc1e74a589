"""The data module that joins one data module per task: its contract, and the hooks that it hands on."""

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from recon.configuration import build_object
from recon.data import Glyphs, PerTask
from recon.data.batches import FixedBatches
from recon.data.contract import dataset_name_of, input_shape_of, reads_files, tasks_of
from recon.tasks.per_image import classification


def glyphs(**options: Any) -> Glyphs:
    return Glyphs(**{"train_size": 12, "test_size": 6, "batch_size": 4, "eval_batch_size": 4, **options})


def test_it_fulfils_the_contract_of_data_modules() -> None:
    data = PerTask({"letter": glyphs(seed=1), "digit": glyphs()}, mode="min_size")
    assert [(task.name, task.outputs) for task in tasks_of(data)] == [("letter", 10), ("digit", 10)]
    assert input_shape_of(data) == (1, 36, 36)
    assert dataset_name_of(data) == (
        "PerTask(letter=Glyphs(train_size=12, test_size=6, seed=1), digit=Glyphs(train_size=12, test_size=6, seed=0), "
        "mode='min_size')"
    )
    assert not reads_files(data)


class Own(pl.LightningDataModule):
    """One task, a file, and a record of the hooks that were called."""

    def __init__(self, task: str = "own", size: int = 4) -> None:
        super().__init__()
        self.tasks = [classification(task, 2)]
        self.size = size
        self.called: list[str] = []

    def files_read(self) -> dict[str, Path]:
        return {"a.npy": Path("somewhere") / self.tasks[0].name}

    def prepare_data(self) -> None:
        self.called.append("prepare")

    def setup(self, stage: str) -> None:
        self.called.append(f"setup {stage}")

    def teardown(self, stage: str) -> None:
        self.called.append(f"teardown {stage}")

    def state_dict(self) -> dict[str, Any]:
        return {"size": self.size}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.size = state_dict["size"]

    def train_dataloader(self) -> Any:
        labels = [{self.tasks[0].name: torch.tensor(i % 2)} for i in range(self.size)]
        return DataLoader(list(zip(torch.zeros(self.size, 3), labels, strict=True)), batch_size=2)  # type: ignore[arg-type]


def test_the_only_task_of_a_module_may_go_by_any_name() -> None:
    data = PerTask({"photos": Own("kind"), "sketches": Own("kind")})
    assert [(task.name, task.outputs) for task in data.tasks] == [("photos", 2), ("sketches", 2)]
    batch, _, _ = next(iter(data.train_dataloader()))
    assert {task: part and part[1].tolist() for task, part in batch.items()} == {"photos": [0, 1], "sketches": [0, 1]}


def test_hooks_and_trainer_reach_every_module(tmp_path: Path) -> None:
    first, second = Own(), Own()
    data = PerTask({"a": first, "b": second})
    data.trainer = trainer = pl.Trainer(logger=False, default_root_dir=tmp_path, accelerator="cpu")
    data.prepare_data()
    data.setup("fit")
    data.teardown("fit")
    for module in (first, second):
        assert module.called == ["prepare", "setup fit", "teardown fit"]
        assert module.trainer is trainer


def test_files_and_state_are_those_of_all_modules() -> None:
    data = PerTask({"a": Own("kind", size=6), "b": Own()})
    assert reads_files(data)
    assert data.files_read() == {"a/a.npy": Path("somewhere/kind"), "b/a.npy": Path("somewhere/own")}
    assert not reads_files(PerTask({"own": Own(), "digit": glyphs()}))
    other = PerTask({"a": Own("kind"), "b": Own()})
    other.load_state_dict(data.state_dict())
    assert other.modules["a"].size == 6  # type: ignore[attr-defined]
    assert PerTask({"digit": glyphs()}).state_dict() == {}


def test_evaluation_has_each_set_once_whatever_the_mode() -> None:
    for mode in ("min_size", "max_size_cycle", "sequential"):
        data = PerTask({"digit": glyphs(), "letter": glyphs(test_size=11)}, mode=mode)  # type: ignore[arg-type]
        for loader in (data.val_dataloader(), data.test_dataloader()):
            sizes = [{task: part and len(part[0]) for task, part in batch.items()} for batch, _, _ in loader]
            assert sizes == [{"digit": 4, "letter": 4}, {"digit": 2, "letter": 4}, {"digit": None, "letter": 3}]


def test_tasks_without_a_set_are_left_out_of_evaluation() -> None:
    data = PerTask({"own": Own(), "digit": glyphs()})
    assert [list(batch) for batch, _, _ in data.val_dataloader()] == [["digit"], ["digit"]]


def test_predictions_are_of_the_test_sets_one_after_the_other() -> None:
    data = PerTask({"digit": glyphs(), "letter": glyphs(test_size=3)})
    loaders = data.predict_dataloader()
    assert [len(loader) for loader in loaders] == [2, 1]
    assert all(isinstance(loader.sampler, FixedBatches) for loader in loaders)
    assert [len(loader.dataset) for loader in loaders] == [6, 3]
    assert [[*batch] for loader in loaders for batch in loader] == [["digit"], ["digit"], ["letter"]]


def test_a_configuration_nests_the_class_paths() -> None:
    made = {"class_path": "recon.data.Glyphs", "init_args": {"train_size": 12, "test_size": 6, "batch_size": 4}}
    section = {
        "class_path": "recon.data.PerTask",
        "init_args": {"modules": {"digit": made, "letter": made}, "mode": "max_size"},
    }
    data = build_object(pl.LightningDataModule, section, "data")
    assert isinstance(data, PerTask)
    assert [task.name for task in data.tasks] == ["digit", "letter"]
    assert data.mode == "max_size"


class Moves(Own):
    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return batch


class Several(Own):
    def train_dataloader(self) -> Any:
        return [super().train_dataloader()] * 2


def test_modules_that_cannot_be_joined_are_refused() -> None:
    for modules, message in (
        ({}, "modules is empty"),
        ({"digits": glyphs()}, "unknown task 'digits' in Glyphs; nearest: 'digit'"),
        ({"a b": Own()}, "task name 'a b' is not an identifier"),
        ({"own": pl.LightningDataModule()}, "LightningDataModule has no tasks"),
        ({"own": Moves()}, "the data of task 'own' have their own on_after_batch_transfer"),
    ):
        with pytest.raises(ValueError, match=message):
            PerTask(modules)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="unknown mode 'max'; nearest"):
        PerTask({"own": Own()}, mode="max")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="the data of task 'own' give 2 loaders for train; a task has one"):
        PerTask({"own": Several()}).train_dataloader()
    with pytest.raises(ValueError, match="the data of task 'own' have no batch to train on"):
        PerTask({"own": Own(size=0)}).train_dataloader()


def test_a_configuration_with_an_unknown_mode_names_the_nearest() -> None:
    configuration = {"class_path": "recon.data.PerTask", "init_args": {"modules": {}, "mode": "max_cycle"}}
    with pytest.raises(ValueError, match=r"Got value: max_cycle; nearest: 'max_size_cycle'$"):
        build_object(PerTask, configuration, "fit.data")
