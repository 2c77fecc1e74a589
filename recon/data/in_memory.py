"""Loaders over data sets held as tensors, where a batch is one slice of them.

Collating such a batch sample by sample would take longer than a training step of a small network.
"""

from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from recon.data.batches import Batch, FixedBatches, ShuffledBatches, overfits, run_seed
from recon.data.shares import own_share, shared_in_order, smallest_last_batch


def shuffled_loader(
    data: Dataset[Batch], size: int, batch_size: int, seed: int | None, trainer: Any, among: Tensor | None = None
) -> DataLoader[Batch]:
    """A loader of training data, in the order of ``(seed, epoch)``.

    Args:
        data: The data set; it maps indices ``(B,)`` to a batch.
        size: Number of its samples.
        batch_size: Batch size, in each process.
        seed: Seed of the order; ``None`` for the run's.
        trainer: The Lightning trainer, or ``None``.
        among: Indices of the samples to load; all by default.
    """
    order = ShuffledBatches(
        size if among is None else len(among),
        batch_size,
        run_seed() if seed is None else seed,
        own_share(),
        smallest_last_batch(trainer),
        among,
    )
    sampler = FixedBatches(list(order)) if overfits(trainer) else order
    return DataLoader(data, batch_size=None, sampler=sampler)


def ordered_loader(data: Dataset[Batch], size: int, batch_size: int) -> DataLoader[Batch]:
    """A loader of evaluation data, in their order; every sample is in one batch of one process.

    Args:
        data: The data set; it maps indices ``(B,)`` to a batch.
        size: Number of its samples.
        batch_size: Largest batch size, in each process.

    Raises:
        ValueError: There are fewer samples than processes.
    """
    return DataLoader(data, batch_size=None, sampler=FixedBatches(shared_in_order(size, batch_size, own_share())))


def check_sizes(**sizes: int) -> None:
    """Refuse numbers of samples below one; the name of each argument is that of its parameter.

    Raises:
        ValueError: A number is too small.
    """
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} is {size}; it must be at least 1")


def check_seeds(**seeds: int | None) -> None:
    """Refuse negative seeds; the name of each argument is that of its parameter.

    Raises:
        ValueError: A seed is negative.
    """
    for name, seed in seeds.items():
        if seed is not None and seed < 0:
            raise ValueError(f"{name} is {seed}; it must not be negative")
