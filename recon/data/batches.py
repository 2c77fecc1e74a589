"""Batches of indices, in an order that depends on the run's seed and the epoch alone."""

import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Sampler, SequentialSampler

Batch = tuple[Tensor, dict[str, Tensor]]
"""A batch of a data module: ``(x, {task: target})``."""

EpochBatch = tuple[int, list[int]]
"""An epoch and the indices of one of its batches."""


def run_seed() -> int:
    """The run's seed, set by Lightning's ``seed_everything``, or 0."""
    return int(os.environ.get("PL_GLOBAL_SEED", "0"))


class FixedBatches(SequentialSampler):
    """The same batches in every epoch, in order.

    To overfit, Lightning replaces any sampler by one of single samples, except a sequential one
    such as this.

    >>> list(FixedBatches([[0, 1], [2]]))
    [[0, 1], [2]]

    Args:
        batches: The indices of the data set, batch by batch.
    """

    def __init__(self, batches: Sequence[Any]) -> None:
        super().__init__(batches)
        self.batches = batches

    def __iter__(self) -> Iterator[Any]:
        return iter(self.batches)


def overfits(trainer: Any) -> bool:
    """Whether a Lightning trainer, if there is one, trains every epoch on the same few batches."""
    return trainer is not None and trainer.overfit_batches > 0


class ShuffledBatches(Sampler[Tensor]):
    """Index batches of a permutation that depends on seed and epoch only, also after a resume.

    Each epoch holds every sample once, except that a last batch of one sample is left out: batch
    normalisation cannot be trained on it. Lightning calls ``set_epoch`` before each epoch.

    >>> batches = ShuffledBatches(size=5, batch_size=2, seed=0)
    >>> [batch.tolist() for batch in batches]
    [[2, 4], [3, 0]]

    Args:
        size: Number of samples.
        batch_size: Number of samples in a batch; the last one may have fewer.
        seed: Seed of the order, not negative.
    """

    def __init__(self, size: int, batch_size: int, seed: int) -> None:
        self.size = size
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Select the epoch for the order of the next iteration."""
        self.epoch = epoch

    def __len__(self) -> int:
        full, rest = divmod(self.size, self.batch_size)
        return full + (rest > 1 or (rest == 1 and full == 0))

    def __iter__(self) -> Iterator[Tensor]:
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.size)
        yield from torch.split(torch.from_numpy(order), self.batch_size)[: len(self)]


class EpochBatches(Sampler[EpochBatch]):
    """Shuffled batches that carry their epoch, so that draws in any process can depend on it.

    >>> batches = EpochBatches(ShuffledBatches(size=4, batch_size=2, seed=0), epoch=3)
    >>> [epoch for epoch, indices in batches]
    [3, 3]

    Args:
        batches: The batches of indices.
        epoch: The first epoch.
    """

    def __init__(self, batches: ShuffledBatches, epoch: int = 0) -> None:
        self.batches = batches
        self.set_epoch(epoch)

    def set_epoch(self, epoch: int) -> None:
        """Select the epoch for the order of the next iteration."""
        self.batches.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[EpochBatch]:
        epoch = self.batches.epoch
        for indices in self.batches:
            yield epoch, indices.tolist()
