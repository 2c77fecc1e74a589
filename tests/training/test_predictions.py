"""Predictions of a checkpoint as files."""

import csv
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from recon.cli.dispatch import main
from recon.data import Glyphs
from recon.data.batches import Batch
from recon.models import LeNet
from recon.training import MultiTaskModule
from recon.training.checkpoints import WholeCheckpoints
from recon.training.predictions import PredictionFiles, check_new
from recon.training.trainer import Trainer

GLYPHS = Path(__file__).parents[2] / "configs" / "glyphs" / "fit.yaml"


def test_predict_writes_the_label_of_every_test_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tiny = [
        *("--model.backbone.width=2", "--data.train_size=64", "--data.test_size=50", "--data.eval_batch_size=20"),
        *("--trainer.max_epochs=1", "--trainer.enable_progress_bar=false"),
    ]
    main(["fit", "--config", str(GLYPHS), *tiny])
    main(["predict", "--config", str(GLYPHS), *tiny, "--ckpt_path=last", "--out=found"])
    found = {path.stem: np.load(path) for path in Path("found").iterdir()}
    assert {name: (labels.shape, labels.dtype) for name, labels in found.items()} == {
        "digit": ((50,), np.int64),
        "letter": ((50,), np.int64),
    }
    # The share of right ones is the accuracy that the run has logged of the same weights.
    data = Glyphs(train_size=64, test_size=50)
    data.prepare_data()
    data.setup("test")
    truths = [targets for _, targets in data.test_dataloader()]
    row = list(csv.DictReader(Path("logs/glyphs/version_0/metrics.csv").read_text().splitlines()))[-1]
    for task, labels in found.items():
        truth = torch.cat([targets[task] for targets in truths]).numpy()
        assert (labels == truth).mean() == pytest.approx(float(row[f"val/{task}/accuracy"]))


class ByStage(Glyphs):
    """Data that are made for the stage that they are asked for by, as many data modules make theirs."""

    stages: tuple[str, ...] = ()

    def setup(self, stage: str) -> None:
        super().setup(stage)
        self.stages = (*self.stages, stage)

    def val_dataloader(self) -> DataLoader[Batch]:
        return super().test_dataloader()

    def test_dataloader(self) -> DataLoader[Batch]:
        assert "test" in self.stages
        return super().test_dataloader()


def test_the_test_set_is_predicted_of_data_that_know_no_other(tmp_path: Path) -> None:
    data = ByStage(train_size=32, test_size=20)
    module = MultiTaskModule(LeNet(), data.tasks)
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        default_root_dir=tmp_path,
        plugins=WholeCheckpoints(),
    )
    trainer.fit(module, datamodule=data)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    trainer.predict(module, datamodule=data, out=str(tmp_path / "found"), ckpt_path=str(tmp_path / "a.ckpt"))
    assert np.load(tmp_path / "found" / "digit.npy").shape == (20,)


def test_what_is_of_every_pixel_gets_a_file_a_sample(tmp_path: Path) -> None:
    files = PredictionFiles(tmp_path)
    batches = [
        {
            "seg": torch.arange(24).reshape(2, 3, 4),
            "depth": torch.rand(2, 1, 3, 4, dtype=torch.bfloat16),
            "age": torch.ones(2),
        },
        {"seg": torch.arange(12).reshape(1, 3, 4) + 24, "depth": torch.rand(1, 1, 3, 4), "age": torch.zeros(1)},
    ]
    trainer: Any = SimpleNamespace(world_size=1, is_global_zero=True, predict_loop=SimpleNamespace())
    trainer.predict_loop._combined_loader = SimpleNamespace(flattened=[None])
    module = pl.LightningModule()
    files.on_predict_start(trainer, module)
    for index, outputs in enumerate(batches):
        files.on_predict_batch_end(trainer, module, outputs, None, index)
    files.on_predict_end(trainer, module)
    seg = np.stack([np.load(tmp_path / "seg" / f"{index}.npy") for index in range(3)])
    assert seg.dtype == np.int16
    assert np.array_equal(seg.ravel(), np.arange(36))
    assert np.load(tmp_path / "depth" / "1.npy").dtype == np.float32
    assert np.array_equal(np.load(tmp_path / "age.npy"), [1, 1, 0])
    with pytest.raises(ValueError, match="is not empty; give a new folder"):
        check_new(tmp_path)
