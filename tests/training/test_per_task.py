"""Training on a data set per task: by hand, resumed, and from the command line on images of two kinds."""

import copy
import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
import yaml
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

import recon
from recon.cli.dispatch import main
from recon.data import Glyphs, PerTask
from recon.models import LeNet
from recon.tasks.per_image import classification
from recon.training import BranchOptions, MultiTaskModule
from recon.training.run_folder import LastEpochCheckpoint

TrainerFactory = Callable[..., pl.Trainer]


def plain_sgd(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.1)


def sets(batch_size: int = 16, **options: Any) -> PerTask:
    """Digits in three batches, letters of other images in two."""
    digits = Glyphs(train_size=40, test_size=27, batch_size=batch_size, eval_batch_size=10)
    letters = Glyphs(train_size=20, test_size=12, batch_size=batch_size, eval_batch_size=10, seed=1)
    return PerTask({"digit": digits, "letter": letters}, **options)


@pytest.mark.parametrize("branch", [None, BranchOptions(layers=["fc"])], ids=["plain", "branched"])
def test_training_is_a_plain_loop_over_both_loaders(branch: Any, trainer: TrainerFactory) -> None:
    torch.manual_seed(0)
    data = sets()
    module = MultiTaskModule(LeNet(), data.tasks, branch=branch, optimizer=plain_sgd)
    expected = copy.deepcopy(module)
    trainer(max_epochs=2, limit_val_batches=0).fit(module, datamodule=data)

    optimizer = plain_sgd(expected.parameters())
    loader = sets().train_dataloader()
    steps = 0
    for epoch in range(2):
        loader.set_epoch(epoch)
        for batch, _, _ in loader:
            losses = []
            for task, part in batch.items():
                assert part is not None
                losses.append(cross_entropy(expected(part[0])[task], part[1]))
            optimizer.zero_grad()
            sum(losses).backward()  # type: ignore[union-attr]
            optimizer.step()
            steps += 1
    assert steps == 6
    for name, parameter in module.named_parameters():
        torch.testing.assert_close(parameter, expected.get_parameter(name), msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize("mode", ["max_size_cycle", "max_size", "sequential"])
def test_two_processes_train_and_evaluate_as_one(mode: Any, trainer: TrainerFactory) -> None:
    def run(**options: Any) -> dict[str, Tensor]:
        pl.seed_everything(0, verbose=False)
        data = sets(batch_size=16 // options.get("devices", 1), mode=mode)
        module = MultiTaskModule(
            LeNet(), data.tasks, method="pcgrad", optimizer=plain_sgd, branch=BranchOptions(layers=["fc"])
        )
        fit = trainer(max_epochs=2, **options)
        fit.fit(module, datamodule=data)
        values = {name: torch.as_tensor(float(value)) for name, value in fit.callback_metrics.items()}
        return {**dict(module.named_parameters()), **{n: v for n, v in values.items() if n.startswith("val/")}}

    alone, together = run(), run(devices=2, strategy="ddp_fork")
    assert alone.keys() == together.keys()
    for name, value in alone.items():
        torch.testing.assert_close(together[name], value, msg=lambda m, name=name: f"{name}: {m}")


class Network(nn.Module):
    """Has what makes resuming hard: dropout, and running statistics."""

    num_features = 6

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.norm, self.drop = nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.3)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.norm(self.fc(x)))


class Plain(pl.LightningDataModule):
    """Data of one's own: torch's loader and its shuffle."""

    def __init__(self, task: str, size: int) -> None:
        super().__init__()
        self.tasks = [classification(task, 3)]
        generator = torch.Generator().manual_seed(size)
        x, labels = torch.randn(size, 4, generator=generator), torch.randint(3, (size,), generator=generator)
        self.data = [(x, {task: label}) for x, label in TensorDataset(x, labels)]

    def train_dataloader(self) -> Any:
        return DataLoader(self.data, batch_size=4, shuffle=True)  # type: ignore[arg-type]

    def val_dataloader(self) -> Any:
        return DataLoader(self.data, batch_size=4)  # type: ignore[arg-type]


class Interrupted(Exception):
    pass


class Interruption(pl.Callback):
    """Ends the run in its third epoch, where it can while the short set is in its second round."""

    def __init__(self, batch: int) -> None:
        self.batch = batch

    def on_train_batch_start(self, trainer: pl.Trainer, *args: Any) -> None:
        if trainer.current_epoch == 2 and args[-1] == self.batch:
            raise Interrupted


@pytest.mark.parametrize(
    ("mode", "batches"), [("max_size_cycle", 6), ("min_size", 3), ("max_size", 6), ("sequential", 9)]
)
def test_a_resumed_run_equals_an_uninterrupted_one(
    mode: Any, batches: int, trainer: TrainerFactory, tmp_path: Path
) -> None:
    def run(folder: Path, seed: int, *callbacks: pl.Callback) -> dict[str, Tensor]:
        pl.seed_everything(seed, verbose=False)
        data = PerTask({"long": Plain("long", 24), "short": Plain("short", 10)}, mode=mode)
        module = MultiTaskModule(Network(), data.tasks, branch=BranchOptions(layers=["norm"]))
        fit = trainer(max_epochs=4, enable_checkpointing=True, callbacks=[*callbacks, LastEpochCheckpoint(str(folder))])
        checkpoint = folder / "last.ckpt"
        fit.fit(module, datamodule=data, ckpt_path=str(checkpoint) if checkpoint.exists() else None)
        assert fit.global_step == 4 * batches
        return {**module.state_dict(), **fit.callback_metrics}

    expected = run(tmp_path / "whole", 5)
    with pytest.raises(Interrupted):
        run(tmp_path / "parts", 5, Interruption(batches - 2))
    resumed = run(tmp_path / "parts", 6)  # another seed: all draws have to follow from the checkpoint
    assert [name for name in expected if not torch.equal(resumed[name], expected[name])] == []


def test_a_conflict_map_counts_pairs_of_tasks_that_were_there(trainer: TrainerFactory) -> None:
    data = sets(mode="max_size")
    module = MultiTaskModule(LeNet(), data.tasks, method="pcgrad")
    search = recon.training.ConflictCallback()
    trainer(limit_val_batches=0, callbacks=[search]).fit(module, datamodule=data)
    assert search.analyzer is not None
    found = search.analyzer.conflict_map()
    assert found.provenance["steps"] == 3
    assert set(found.observations.values()) == {2}  # letters are in two of the three batches


def test_one_task_of_joined_data_trains_alone(trainer: TrainerFactory) -> None:
    data = sets()
    module = MultiTaskModule(LeNet(), data.tasks, only=["letter"])
    fit = trainer()
    fit.fit(module, datamodule=data)
    assert fit.global_step == 3
    assert list(fit.test(module, datamodule=data, verbose=False)[0]) == ["test/letter/accuracy"]


SMALL = {"train_size": 48, "test_size": 20, "batch_size": 16, "eval_batch_size": 8}


def test_the_command_line_fits_searches_tests_and_predicts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    modules = {
        "digit": {"class_path": "recon.data.Glyphs", "init_args": SMALL},
        "letter": {"class_path": "recon.data.Glyphs", "init_args": {**SMALL, "train_size": 20, "seed": 1}},
    }
    configuration = {
        "trainer": {"max_epochs": 2, "accelerator": "cpu", "enable_progress_bar": False},
        "model": {"backbone": {"class_path": "recon.models.LeNet"}, "method": "pcgrad"},
        "data": {"class_path": "recon.data.PerTask", "init_args": {"modules": modules}},
    }
    Path("fit.yaml").write_text(yaml.safe_dump(configuration))
    main(["search", "--config", "fit.yaml", "--map_path", "map.json"])
    assert recon.ConflictMap.load("map.json").provenance["dataset"].startswith("PerTask(digit=Glyphs(")
    branched = ["--config", "fit.yaml", "--model.branch.map", "map.json", "--model.branch.top", "2"]
    main(["fit", *branched])
    main(["test", *branched, "--ckpt_path", "last"])
    main(["predict", *branched, "--ckpt_path", "last", "--out", "found"])
    found = {path.stem: np.load(path) for path in Path("found").iterdir()}
    folders = sorted(Path("logs").rglob("metrics.csv"), key=lambda path: path.stat().st_mtime_ns)
    rows = list(csv.DictReader(folders[-1].read_text().splitlines()))
    for task, seed in (("digit", 0), ("letter", 1)):
        truth = Glyphs(**SMALL, seed=seed).composites("test").targets[task]
        row = next(row for row in reversed(rows) if row.get(f"test/{task}/accuracy"))
        assert (found[task] == truth.numpy()).mean() == pytest.approx(float(row[f"test/{task}/accuracy"]))


def test_an_unknown_task_of_a_batch_is_named_in_training(trainer: TrainerFactory) -> None:
    data = sets()
    module = MultiTaskModule(LeNet(), [classification("digit", 10), classification("latter", 10)])
    with pytest.raises(ValueError, match="unknown task 'letter' in the batch; nearest: 'latter'"):
        trainer().fit(module, datamodule=data)
