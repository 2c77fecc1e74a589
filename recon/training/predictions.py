"""Predictions as files."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from recon.files.atomic import atomic_path


class PredictionFiles(pl.Callback):
    """Write the output of ``predict_step``: one file or folder per task, in the order of the data.

    ``OUT/TASK.npy`` holds numbers or vectors per sample: ``(N,)`` or ``(N, C)``. For a task with a
    value per pixel, ``OUT/TASK/0.npy``, ``1.npy``, ... hold one sample each, as prepared data sets
    do; labels are int16 there.

    Args:
        out: Folder of the files; new or empty.

    Attributes:
        samples: Task -> number of its samples.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.samples: Counter[str] = Counter()
        self._gathered: dict[str, list[Tensor]] = {}

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.samples, self._gathered = Counter(), {}

    def on_predict_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: dict[str, Tensor],
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        for task, estimates in outputs.items():
            values = estimates.detach().cpu()
            values = values.float() if values.dtype in (torch.bfloat16, torch.float16) else values
            if values.dim() <= 2:
                self._gathered.setdefault(task, []).append(values)
            else:
                self._write(task, values)
            self.samples[task] += len(values)

    def _write(self, task: str, values: Tensor) -> None:
        for index, value in enumerate(values, self.samples[task]):
            whole = value if value.is_floating_point() else value.to(torch.int16)
            _save(self.out / task / f"{index}.npy", whole)

    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        for task, batches in self._gathered.items():
            _save(self.out / f"{task}.npy", torch.cat(batches))
        self._gathered = {}


def check_new(out: Path) -> None:
    """Refuse a folder that is not empty, where predictions would mix with other files.

    Raises:
        ValueError: The folder holds something.
    """
    if out.is_dir() and any(out.iterdir()):
        raise ValueError(f"--out {out} is not empty; give a new folder, or remove that one")


def _save(path: Path, values: Tensor) -> None:
    with atomic_path(path) as unfinished, unfinished.open("wb") as file:
        np.save(file, values.numpy(), allow_pickle=False)
