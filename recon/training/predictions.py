"""Predictions as files."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.overrides.distributed import UnrepeatedDistributedSampler
from torch import Tensor

from recon.data.batches import FixedBatches
from recon.data.shares import own_share
from recon.files.atomic import atomic_path


class PredictionFiles(pl.Callback):
    """Write the output of ``predict_step``: one file or folder per task, in the order of the data.

    ``OUT/TASK.npy`` holds numbers or vectors per sample: ``(N,)`` or ``(N, C)``. For a task with a
    value per pixel, ``OUT/TASK/0.npy``, ``1.npy``, ... hold one sample each, as prepared data sets
    do; labels are int16 there. Several processes write one result.

    Args:
        out: Folder of the files; new or empty.

    Attributes:
        samples: Task -> number of its samples.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.samples: Counter[str] = Counter()
        self._parts: list[_Part] = []
        self._gathered: dict[str, list[tuple[Tensor, Tensor]]] = {}

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.samples, self._gathered = Counter(), {}
        combined = trainer.predict_loop._combined_loader
        assert combined is not None
        self._parts = [_part(loader, trainer) for loader in combined.flattened]

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
            numbers = self._parts[dataloader_idx].numbers(self.samples[task], len(values))
            if values.dim() <= 2:
                self._gathered.setdefault(task, []).append((numbers, values))
            else:
                self._write(task, numbers, values)
            self.samples[task] += len(values)

    def _write(self, task: str, numbers: Tensor, values: Tensor) -> None:
        for number, value in zip(numbers.tolist(), values, strict=True):
            whole = value if value.is_floating_point() else value.to(torch.int16)
            _save(self.out / task / f"{number}.npy", whole)

    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        everything = _of_all_processes((self.samples, self._gathered), trainer)
        self.samples = sum((samples for samples, _ in everything), Counter())
        if trainer.is_global_zero:
            for task in self._gathered:
                pairs = [pair for _, gathered in everything for pair in gathered[task]]
                numbers, values = (torch.cat(parts) for parts in zip(*pairs, strict=True))
                _save(self.out / f"{task}.npy", values[numbers.argsort()])
        self._gathered = {}


@dataclass(frozen=True)
class _Part:
    """The numbers, in the data, of the samples that one process predicts."""

    first: int = 0
    step: int = 1

    def numbers(self, done: int, count: int) -> Tensor:
        """The numbers of the next samples, when so many are done."""
        return self.first + self.step * torch.arange(done, done + count)


def _part(loader: Any, trainer: pl.Trainer) -> _Part:
    if trainer.world_size == 1:
        return _Part()
    sampler = getattr(loader, "sampler", None)
    if isinstance(sampler, UnrepeatedDistributedSampler):  # Lightning's, for loaders of the user's own
        return _Part(trainer.global_rank, trainer.world_size)
    if isinstance(sampler, FixedBatches):
        return _Part(int(own_share().of(torch.arange(len(loader.dataset)))[0]))
    raise ValueError(
        f"{trainer.world_size} processes cannot tell which samples of {type(loader).__name__} they predict; predict "
        "with devices=1"
    )


def _of_all_processes(own: Any, trainer: pl.Trainer) -> list[Any]:
    everything = [own] * trainer.world_size
    if trainer.world_size > 1:
        distributed: Any = torch.distributed
        distributed.all_gather_object(everything, own)
    return everything


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
