"""Data that are drawn at random, in this process or in workers, are those of the uninterrupted run after a resume."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from recon.data.batches import ShuffledBatches
from recon.tasks.per_image import classification
from recon.training import MultiTaskModule

TrainerFactory = Callable[..., pl.Trainer]


class Augmented(Dataset[Any]):
    """Samples that differ at each look: noise of torch, NumPy and Python's own."""

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> Any:
        noise = [torch.rand(()).item(), float(np.random.rand()), random.random()]
        return torch.tensor([float(index), *noise]), {"a": torch.tensor(index % 2), "b": torch.tensor(index % 3 % 2)}


class InBatches(Augmented):
    def __getitem__(self, indices: Any) -> Any:
        rows = [super(InBatches, self).__getitem__(int(index)) for index in indices]
        targets = {task: torch.stack([row[1][task] for row in rows]) for task in ("a", "b")}
        return torch.stack([row[0] for row in rows]), targets


def shuffled(workers: int) -> DataLoader[Any]:
    return DataLoader(Augmented(), batch_size=4, shuffle=True, num_workers=workers)


def in_shuffled_batches(workers: int) -> DataLoader[Any]:
    return DataLoader(InBatches(), batch_size=None, sampler=ShuffledBatches(12, 4, seed=0), num_workers=workers)


class Seen(pl.Callback):
    def __init__(self) -> None:
        self.batches: list[Tensor] = []

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.batches.append(batch[0].clone())


def module() -> MultiTaskModule:
    backbone = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5))
    backbone.num_features = 8  # type: ignore[assignment]
    return MultiTaskModule(
        backbone, [classification("a", 2), classification("b", 2)], optimizer=lambda p: torch.optim.SGD(p, lr=0.01)
    )


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("loader", [shuffled, in_shuffled_batches])
def test_an_epoch_is_the_same_after_a_resume(
    loader: Callable[[int], DataLoader[Any]], workers: int, trainer: TrainerFactory, tmp_path: Path
) -> None:
    def fit(epochs: int, checkpoint: Path | None = None) -> tuple[list[Tensor], dict[str, Tensor]]:
        pl.seed_everything(0 if checkpoint is None else 7, verbose=False)
        own, seen = module(), Seen()
        run = trainer(max_epochs=epochs, callbacks=[seen])
        run.fit(own, loader(workers), ckpt_path=checkpoint)
        run.save_checkpoint(tmp_path / f"{epochs}.ckpt")
        return seen.batches, own.state_dict()

    whole, expected = fit(3)
    first, _ = fit(1)
    rest, resumed = fit(3, tmp_path / "1.ckpt")
    assert torch.equal(torch.stack(whole), torch.stack([*first, *rest]))
    assert [name for name in expected if not torch.equal(expected[name], resumed[name])] == []
    # Each epoch has every sample, in an order and with noise of its own.
    epochs = torch.stack(whole).view(3, 12, 4)
    assert epochs[..., 0].sort(1).values.equal(torch.arange(12.0).expand(3, 12))
    assert len({tuple(order) for order in epochs[..., 0].tolist()}) == 3
    assert len(epochs[..., 1:].flatten().unique()) == 3 * 12 * 3


def test_runs_of_different_seeds_differ_in_their_data(trainer: TrainerFactory) -> None:
    batches = []
    for seed in (0, 1):
        pl.seed_everything(seed, verbose=False)
        seen = Seen()
        trainer(callbacks=[seen]).fit(module(), shuffled(0))
        batches.append(torch.stack(seen.batches))
    assert not batches[0].equal(batches[1])
