"""Training in several processes, forked from this one: equal to one process with all their samples."""

import csv
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import CSVLogger
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import recon
from recon.data import Glyphs
from recon.models import LeNet
from recon.training import ConflictCallback, MultiTaskModule
from recon.training.branch_options import BranchOptions
from recon.training.checkpoints import WholeCheckpoints
from recon.training.epochs import seed_data, seed_training
from recon.training.progress import ProgressLines
from recon.training.run_folder import LastEpochCheckpoint
from recon.training.trainer import Trainer

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked")

SAMPLES = 8
"""Of one process, in a batch."""


def data(samples: int, train_size: int = 50, **options: Any) -> Glyphs:
    return Glyphs(train_size=train_size, test_size=31, batch_size=samples, eval_batch_size=7, **options)


def trainer(devices: int, folder: Path, **options: Any) -> Trainer:
    """A trainer in float64, without output."""
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    strategy = "ddp_fork" if devices > 1 else "auto"
    common = {"accelerator": "cpu", "devices": devices, "strategy": strategy, "precision": "64-true", "max_epochs": 2}
    plain = {"enable_checkpointing": False, "num_sanity_val_steps": 0, "plugins": [WholeCheckpoints()]}
    return Trainer(**{"default_root_dir": str(folder), **quiet, **common, **plain, **options})


def module_for(glyphs: Glyphs, method: str = "cagrad", **options: Any) -> MultiTaskModule:
    pl.seed_everything(3, verbose=False)
    return MultiTaskModule(LeNet(), glyphs.tasks, method=method, **options)


def assert_same_weights(one: nn.Module, other: nn.Module) -> None:
    # What processes learned comes back in the precision that the module had before.
    for first, second in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(first.float(), second.float(), rtol=1e-5, atol=1e-7)


# Of 50 samples two are left in the last batch: one for each of two processes, none for the third.
@pytest.mark.parametrize(
    ("devices", "method", "options"),
    [(2, "cagrad", {}), (3, "pcgrad", {}), (2, "uw", {"branch": BranchOptions(layers=["conv2"])})],
)
def test_processes_train_as_one_with_all_their_samples(
    devices: int, method: str, options: dict[str, Any], tmp_path: Path
) -> None:
    modules, metrics = [], []
    for number in (1, devices):
        glyphs = data(SAMPLES * devices // number)
        modules.append(module := module_for(glyphs, method, **options))
        search = ConflictCallback(path=str(tmp_path / f"{number}.json"))
        fit = trainer(number, tmp_path, callbacks=[search])
        fit.fit(module, datamodule=glyphs)
        metrics.append({name: value.item() for name, value in fit.callback_metrics.items()})
    assert_same_weights(*modules)
    assert {"loss/digit", "conflict", "val/letter/accuracy"} <= metrics[0].keys()
    assert metrics[1] == pytest.approx(metrics[0], rel=1e-5)
    one, several = (recon.ConflictMap.load(tmp_path / f"{number}.json") for number in (1, devices))
    assert several.scores(-0.1) == one.scores(-0.1)
    assert several.provenance["steps"] == one.provenance["steps"]


def test_what_a_run_writes_is_written_once_and_resumes_in_another_number_of_processes(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def fit(devices: int, epochs: int, name: str, checkpoint: Path | None = None) -> MultiTaskModule:
        glyphs = data(SAMPLES * 2 // devices)
        module = module_for(glyphs, "pcgrad")
        logger = CSVLogger(tmp_path, name=name, version=0)
        callbacks = [LastEpochCheckpoint(str(tmp_path / name)), ProgressLines()]
        made = trainer(
            devices, tmp_path, max_epochs=epochs, logger=logger, callbacks=callbacks, enable_checkpointing=True
        )
        made.fit(module, datamodule=glyphs, ckpt_path=None if checkpoint is None else str(checkpoint))
        return module

    fit(2, 1, "began")
    lines = capfd.readouterr().out.splitlines()
    assert len([line for line in lines if line.startswith("epoch 1/1:")]) == 1
    assert len([line for line in lines if line.startswith("checkpoint:")]) == 1
    rows = list(csv.DictReader((tmp_path / "began" / "version_0" / "metrics.csv").open()))
    assert [row["val/digit/accuracy"] != "" for row in rows] == [True]
    assert not list(tmp_path.rglob("*.tmp"))
    assert_same_weights(fit(1, 2, "resumed", tmp_path / "began" / "last.ckpt"), fit(1, 2, "whole"))


def test_predictions_of_processes_are_those_of_one_in_the_order_of_the_data(tmp_path: Path) -> None:
    glyphs = data(SAMPLES)
    module, checkpoint = module_for(glyphs), str(tmp_path / "a.ckpt")
    fit = trainer(1, tmp_path, max_epochs=1)
    fit.fit(module, datamodule=glyphs)
    fit.save_checkpoint(checkpoint)
    for devices in (1, 2):
        made = trainer(devices, tmp_path)
        made.predict(module, datamodule=data(SAMPLES), out=str(tmp_path / str(devices)), ckpt_path=checkpoint)
    one, two = (np.load(tmp_path / number / "digit.npy") for number in ("1", "2"))
    assert one.shape == (31,)
    assert np.array_equal(one, two)


class Own(pl.LightningModule):
    """A module of a user's own that keeps an engine; Lightning wraps it in DDP."""

    def __init__(self, glyphs: Glyphs) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.backbone = LeNet()
        self.heads = nn.ModuleDict({task.name: nn.Linear(self.backbone.num_features, 26) for task in glyphs.tasks})
        self.tasks = glyphs.tasks
        self.engine = recon.Engine(self.backbone, [task.name for task in glyphs.tasks], "mgda")

    def training_step(self, batch: tuple[Tensor, dict[str, Tensor]], index: int) -> None:
        optimizer: Any = self.optimizers()
        optimizer.zero_grad()
        features = self.backbone(batch[0])
        losses = {task.name: task.loss(self.heads[task.name](features), batch[1][task.name]) for task in self.tasks}
        self.engine.backward(losses)
        wrapped = self.trainer.strategy.model
        assert isinstance(wrapped, DistributedDataParallel) == (self.trainer.world_size > 1)
        optimizer.step()

    def validation_step(self, batch: Any, index: int) -> None: ...

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_a_module_of_ones_own_with_an_engine_trains_inside_lightnings_wrapper(tmp_path: Path) -> None:
    modules = []
    for devices in (1, 2):
        pl.seed_everything(3, verbose=False)
        glyphs = data(SAMPLES * 2 // devices, train_size=48)
        modules.append(Own(glyphs))
        trainer(devices, tmp_path, limit_val_batches=0).fit(modules[-1], datamodule=glyphs)
    assert_same_weights(*modules)


def test_draws_differ_between_processes_and_repeat() -> None:
    def draw(seed: Any, *arguments: int) -> float:
        seed(*arguments)
        return torch.rand(()).item()

    for seed in (seed_training, seed_data):
        draws = {(epoch, rank): draw(seed, 7, epoch, rank) for epoch in range(3) for rank in range(3)}
        assert len(set(draws.values())) == 9
        assert draws[1, 0] == draw(seed, 7, 1)
        assert draws[2, 1] == draw(seed, 7, 2, 1)
