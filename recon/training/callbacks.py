"""Callbacks for multi-task training: the conflict analyzer."""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from recon.conflict import ConflictAnalyzer
from recon.training.module import MultiTaskModule


class ConflictCallback(pl.Callback):
    """Observe conflicts while training, and keep the conflict map.

    The statistics are saved in every checkpoint, so a resumed run loses and repeats none. The map is written,
    atomically, after each epoch.

    Args:
        every: Observe each n-th step.
        path: File of the conflict map; by default ``conflict_map.json`` in the trainer's root directory.
    """

    def __init__(self, every: int = 1, path: str | None = None) -> None:
        self.every = every
        self.path = path
        self.analyzer: ConflictAnalyzer | None = None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        if not isinstance(pl_module, MultiTaskModule):
            raise TypeError(f"ConflictCallback observes a MultiTaskModule, got {type(pl_module).__name__}")
        self.analyzer = ConflictAnalyzer(
            pl_module.backbone, tasks=[task.name for task in pl_module.tasks], every=self.every
        )
        pl_module.analyzer = self.analyzer

    def state_dict(self) -> dict[str, Any]:
        return {} if self.analyzer is None else self.analyzer.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if self.analyzer is not None and state_dict:
            self.analyzer.load_state_dict(state_dict)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert self.analyzer is not None
        assert isinstance(pl_module, MultiTaskModule)
        self.analyzer.conflict_map(
            dataset=_dataset_name(trainer),
            seed=pl_module.run_seed,
        ).save(self.map_path(trainer))

    def map_path(self, trainer: pl.Trainer) -> Path:
        """Where the conflict map is written."""
        return Path(self.path) if self.path is not None else Path(trainer.default_root_dir) / "conflict_map.json"


def _dataset_name(trainer: pl.Trainer) -> str:
    data = getattr(trainer, "datamodule", None)
    return getattr(data, "dataset_name", type(data).__name__)
