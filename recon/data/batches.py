"""Batches of indices, in an order that depends on the run's seed and the epoch alone.

Several processes share them (:mod:`recon.data.shares`): R processes with a batch size of b see the
batches that one process with a batch size of R b sees. The samplers say that they share by
themselves: they are a ``DistributedSampler``, which Lightning replaces by no other.
"""

import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DistributedSampler, SequentialSampler

from recon.data.shares import WHOLE, Share

Batch = tuple[Tensor, dict[str, Tensor]]
"""A batch of a data module: ``(x, {task: target})``."""

EpochBatch = tuple[int, list[int]]
"""An epoch and the indices of one of its batches."""


def run_seed() -> int:
    """The run's seed, set by Lightning's ``seed_everything``, or 0."""
    return int(os.environ.get("PL_GLOBAL_SEED", "0"))


class FixedBatches(DistributedSampler[Any], SequentialSampler):
    """The same batches in every epoch, in order.

    To overfit, Lightning replaces any sampler by one of single samples, except a sequential one
    such as this.

    >>> list(FixedBatches([[0, 1], [2]]))
    [[0, 1], [2]]

    Args:
        batches: The indices of the data set, batch by batch; in several processes, those of this
            one (:func:`recon.data.shares.shared_in_order`).
    """

    def __init__(self, batches: Sequence[Any]) -> None:
        SequentialSampler.__init__(self, batches)
        self.batches = batches

    def set_epoch(self, epoch: int) -> None:
        """Do nothing: all epochs have the same batches."""

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.batches)


def overfits(trainer: Any) -> bool:
    """Whether a Lightning trainer, if there is one, trains every epoch on the same few batches."""
    return trainer is not None and trainer.overfit_batches > 0


class ShuffledBatches(DistributedSampler[Tensor]):
    """Index batches of a permutation that depends on seed and epoch only, also after a resume.

    Each epoch holds every sample once, except that a last batch of one sample is left out: batch
    normalisation cannot be trained on it. Lightning calls ``set_epoch`` before each epoch.

    >>> batches = ShuffledBatches(size=5, batch_size=2, seed=0)
    >>> [batch.tolist() for batch in batches]
    [[2, 4], [3, 0]]

    Two processes share the batches of four:

    >>> for rank in (0, 1):
    ...     batches = ShuffledBatches(size=6, batch_size=2, seed=0, share=Share(rank, processes=2))
    ...     print([batch.tolist() for batch in batches])
    [[3, 2], [0]]
    [[5, 4], [1]]

    Args:
        size: Number of samples.
        batch_size: Number of samples in a batch of one process; the last one may have fewer.
        seed: Seed of the order, not negative.
        share: The process that the batches are for. All processes have the same number of batches.
        least: Smallest last batch, over all processes, that is not left out.
        among: ``(size,)``, the indices of the samples in the data set; ``0 ... size - 1`` by
            default.
    """

    def __init__(
        self,
        size: int,
        batch_size: int,
        seed: int,
        share: Share = WHOLE,
        least: int = 2,
        among: Tensor | None = None,
    ) -> None:
        self.size = size
        self.batch_size = batch_size
        self.seed = seed
        self.share = share
        self.least = least
        self.among = among
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Select the epoch for the order of the next iteration."""
        self.epoch = epoch

    def __len__(self) -> int:
        full, rest = divmod(self.size, self.batch_size * self.share.processes)
        return full + (rest >= self.least or (rest > 0 and full == 0))

    def __iter__(self) -> Iterator[Tensor]:
        order = torch.from_numpy(np.random.default_rng([self.seed, self.epoch]).permutation(self.size))
        indices = order if self.among is None else self.among[order]
        batches = torch.split(indices, self.batch_size * self.share.processes)
        yield from map(self.share.of, batches[: len(self)])


class EpochBatches(DistributedSampler[EpochBatch]):
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
