"""What loggers show while a training runs: values of steps, hyperparameters, conflict over time."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import yaml
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger, WandbLogger

from recon.conflict import ConflictMap, MeasuredMap
from recon.data import Glyphs
from recon.models import LeNet
from recon.training import ConflictCallback, LiveView, MultiTaskModule
from recon.training.live_view import COSINES, OVER_TIME, Share, _shows_pictures, over_time

TrainerFactory = Callable[..., pl.Trainer]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def fitted(trainer: TrainerFactory, glyphs: Glyphs, method: str, **options: Any) -> pl.Trainer:
    pl.seed_everything(4, verbose=False)
    fit = trainer(max_epochs=2, log_every_n_steps=2, **options)
    fit.fit(MultiTaskModule(LeNet(), glyphs.tasks, method=method), datamodule=glyphs)
    return fit


@pytest.mark.parametrize("method", ["joint", "uw", "cagrad", "graddrop"])
def test_weights_and_gradient_norms_are_logged_by_default(
    method: str, glyphs: Glyphs, trainer: TrainerFactory, tmp_path: Path
) -> None:
    logger = CSVLogger(tmp_path)
    fitted(trainer, glyphs, method, logger=logger)
    steps = [row for row in rows(Path(logger.log_dir) / "metrics.csv") if row["loss/digit"]]
    assert [row["step"] for row in steps] == ["1", "3", "5"]
    names = {"gradient_norm"}
    names |= {f"weight/{task}" for task in ("digit", "letter") if method != "graddrop"}
    names |= {f"gradient_norm/{task}" for task in ("digit", "letter") if method in ("cagrad", "graddrop")}
    assert {name for name in steps[0] if name.startswith(("weight", "gradient"))} == names
    assert all(float(row[name]) > 0 for row in steps for name in names)
    if method == "joint":
        assert all(float(row["weight/digit"]) == 1 for row in steps)


def test_hyperparameters_are_logged(glyphs: Glyphs, trainer: TrainerFactory, tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path)
    fitted(trainer, glyphs, "cagrad", logger=logger)
    logged = yaml.safe_load((Path(logger.log_dir) / "hparams.yaml").read_text())
    expected = {"method": "CAGrad", "backbone": "LeNet", "tasks": "digit, letter", "lr": 0.1, "momentum": 0.9}
    assert expected.items() <= logged.items()
    assert (logged["optimizer"], logged["seed"], logged["max_epochs"], logged["method/c"]) == ("SGD", 4, 2, 0.5)


def test_conflict_over_time_is_shown_in_tensorboard_and_as_csv(
    glyphs: Glyphs, trainer: TrainerFactory, tmp_path: Path
) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    loggers = [CSVLogger(tmp_path), TensorBoardLogger(tmp_path, name="board")]
    view = LiveView(severity=-0.05, share=0.9)
    fitted(trainer, glyphs, "joint", logger=loggers, callbacks=[ConflictCallback(every=2), view])
    cmap = ConflictMap.load(tmp_path / "conflict_map.json")
    assert isinstance(cmap, MeasuredMap)
    steps, rates = over_time(cmap, -0.05)
    assert steps == [2, 4, 6]
    shown = rows(Path(loggers[0].log_dir or "") / OVER_TIME)
    assert [int(row["step"]) for row in shown] == steps
    np.testing.assert_allclose([[float(row[name]) for name in cmap.layers] for row in shown], rates, atol=1e-6)
    scores = (rates * np.array([1, 1, 1])[:, None]).sum(axis=0)
    assert dict(zip(cmap.layers, scores.round().astype(int).tolist(), strict=True)) == cmap.scores(-0.05)
    cosines = rows(Path(loggers[0].log_dir or "") / COSINES)
    assert sum(float(count) for row in cosines for edge, count in row.items() if edge != "step") == 9
    events = accumulator.EventAccumulator(loggers[1].log_dir).Reload()
    assert "conflict/by_layer_over_time" in events.Tags()["images"]
    assert "conflict/cosines" in events.Tags()["histograms"]
    assert {"weight/digit", "gradient_norm", "conflict"} <= set(events.Tags()["scalars"])


@pytest.mark.slow
def test_conflict_over_time_is_shown_in_wandb_offline(
    glyphs: Glyphs, trainer: TrainerFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    for variable in ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(variable, str(tmp_path))
    logger = WandbLogger(save_dir=tmp_path, offline=True)
    fitted(trainer, glyphs, "joint", logger=logger, callbacks=[ConflictCallback(every=2), LiveView()])
    wandb.teardown()
    (run,) = tmp_path.rglob("offline-run-*/run-*.wandb")
    content = run.read_bytes()
    assert all(name in content for name in (b"weight/digit", b"gradient_norm", b"conflict/cosines", b"LeNet"))
    assert list(tmp_path.rglob("by_layer_over_time*.png"))


def test_loggers_of_the_package_lightning_are_shown_pictures_too() -> None:
    for name, shows in (("TensorBoardLogger", True), ("WandbLogger", True), ("CSVLogger", False)):
        assert _shows_pictures(type(name, (), {"__module__": "lightning.pytorch.loggers"})()) is shows


def test_a_view_keeps_to_its_share() -> None:
    share = Share(0.005, first=0.5)
    share.begin(now=10.0)
    spent, now = 0.0, 10.0
    for cost in (0.4, 0.9, 0.2, 1.0):
        while not share.allows(now):
            now += 1.0
        share.spend(cost)
        spent += cost
        assert spent <= 0.005 * (now - 10.0) + max(0.0, cost - 0.2)
    assert share.spent == pytest.approx(2.5)


def test_a_view_without_a_search_or_with_a_bad_share_is_refused(glyphs: Glyphs, trainer: TrainerFactory) -> None:
    with pytest.raises(ValueError, match="LiveView shows what a ConflictCallback observes, and the trainer has none"):
        trainer(callbacks=[LiveView()]).fit(MultiTaskModule(LeNet(), glyphs.tasks), datamodule=glyphs)
    with pytest.raises(ValueError, match="share=2; give the part of the training time"):
        LiveView(share=2)
    with pytest.raises(ValueError, match=r"-0\.123"):
        LiveView(severity=-0.123)
