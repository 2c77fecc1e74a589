"""Seeds of each epoch from the run's seed, so that a resumed run repeats its draws."""

import random

import numpy as np
import pytorch_lightning as pl
import torch

_STRIDE = 1_000_003  # between the seeds of epochs, a prime
_OF_DATA = 500_009  # what tells the seed of an epoch's data from that of its training


def seed_training(run_seed: int, epoch: int) -> None:
    """Seed the random draws of training in an epoch, such as dropout.

    Args:
        run_seed: Seed of the run.
        epoch: Number of the epoch, from 0.
    """
    torch.manual_seed(run_seed + _STRIDE * (epoch + 1))


def seed_data(run_seed: int, epoch: int) -> None:
    """Seed the random draws of an epoch's data: ``shuffle=True``, workers' seeds, augmentation.

    Workers get their seeds from torch's global generator when an iterator is made: a function of
    this seed and the worker's number, for torch, NumPy and ``random`` alike.

    Args:
        run_seed: Seed of the run.
        epoch: Number of the epoch, from 0.
    """
    seed = run_seed + _STRIDE * (epoch + 1) + _OF_DATA
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


def begin_data_again(trainer: pl.Trainer) -> None:
    """Make the iterator over training data anew.

    In a resumed run Lightning makes it before samplers know the epoch, so its workers fetch the
    first batches of epoch 0.
    """
    fetcher = trainer.fit_loop._data_fetcher
    assert fetcher is not None
    iter(fetcher)
