"""The folder of a run: its checkpoint beside its logs, apart from every other run."""

from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import yaml
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.cli import SaveConfigCallback

from recon.files.atomic import remove_leftovers, write_atomically
from recon.moved import with_new_names
from recon.training.paths import TaskPaths
from recon.training.step_values import is_step_value

CHECKPOINT = "last.ckpt"
CONFIGURATION = "config.yaml"


def run_folder(trainer: pl.Trainer) -> Path:
    """Where a run writes: the folder of its logs, or a new one in ``runs/`` without logs."""
    logger = trainer.logger
    if logger is None:
        runs = Path(trainer.default_root_dir) / "runs"
        return next(folder for n in count() if not (folder := runs / f"version_{n}").exists())
    if (logs := getattr(logger, "log_dir", None)) is not None:
        return Path(logs)
    return Path(logger.save_dir or trainer.default_root_dir, str(logger.name), str(logger.version))


class LastEpochCheckpoint(ModelCheckpoint):
    """Keeps one checkpoint, of the last finished epoch, as ``last.ckpt``.

    Args:
        dirpath: Its folder; by default that of the run.
    """

    def __init__(self, dirpath: str | None = None) -> None:
        super().__init__(
            dirpath=dirpath,
            filename=Path(CHECKPOINT).stem,
            every_n_epochs=1,
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        )

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if self.dirpath is None:
            self.dirpath = str(run_folder(trainer))
        if stage == "fit" and trainer.is_global_zero:
            remove_leftovers(Path(self.dirpath).parent, "*/")
        super().setup(trainer, pl_module, stage)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take nothing over: the checkpoint that a run resumes from belongs to another run."""


class RunConfiguration(SaveConfigCallback):
    """Keeps the configuration in the folder of the run.

    A run without logs and without a checkpoint of ours has no folder, and keeps none. Lightning
    itself would write into the working folder, over any ``config.yaml``, where the logger has no
    folder.

    Layers that a conflict map or a task tree has chosen are kept by name, as another search may
    write the file anew before the run is evaluated.
    """

    def save_config(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if trainer.logger is not None:
            self._write(run_folder(trainer), pl_module)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.logger is None and trainer.is_global_zero:
            for checkpoint in trainer.checkpoint_callbacks:
                if isinstance(checkpoint, LastEpochCheckpoint) and checkpoint.dirpath is not None:
                    self._write(Path(checkpoint.dirpath), pl_module)

    def _write(self, folder: Path, module: pl.LightningModule) -> None:
        configuration = with_new_names(yaml.safe_load(self.parser.dump(self.config, skip_unset=False)))
        origin = ""
        branch = configuration["model"]["branch"]
        files = [] if branch is None else [branch[key] for key in ("map", "tree") if branch[key] is not None]
        if files and isinstance(module, TaskPaths):
            assert module.branch is not None
            origin = f"# model.branch: the choice of {' and '.join(map(repr, files))}\n"
            configuration["model"]["branch"] = asdict(module.branch)
        text = yaml.safe_dump(configuration, sort_keys=False, allow_unicode=True)
        write_atomically(folder / CONFIGURATION, origin + text)


def tell(trainer: pl.Trainer) -> None:
    """Print the metrics that a training ended with, and where its files are, in one process."""
    if not trainer.is_global_zero:
        return
    for name, value in trainer.callback_metrics.items():
        if not is_step_value(name):
            print(f"{name:<32} {value:.4g}")
    if trainer.fast_dev_run:  # type: ignore[attr-defined]  # which keeps nothing
        return
    kept = [c.best_model_path for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint)]
    saved = [Path(path) for path in kept if path]
    folders = [path.parent for path in saved] if trainer.logger is None else [run_folder(trainer)]
    files = {
        "checkpoint": saved,
        "metrics": [folder / "metrics.csv" for folder in folders],
        "configuration": [folder / CONFIGURATION for folder in folders],
    }
    for what, paths in files.items():
        for path in paths:
            if path.exists():
                print(f"{what}: {short(path)}")


def short(path: Path) -> Path:
    """A path as seen from the working folder, where it is below that."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
