"""What is drawn in an epoch as a function of the run's seed and the epoch, so that a resumed run repeats it."""

import random

import numpy as np
import pytorch_lightning as pl
import torch

_STRIDE = 1_000_003  # between the seeds of epochs, a prime
_OF_DATA = 500_009  # what tells the seed of an epoch's data from that of its training


def seed_training(run_seed: int, epoch: int) -> None:
    """Seed what training draws in an epoch, such as dropout."""
    torch.manual_seed(run_seed + _STRIDE * (epoch + 1))


def seed_data(run_seed: int, epoch: int) -> None:
    """Seed what an epoch's data are drawn by: the order of ``shuffle=True``, the seeds of workers, augmentation.

    Workers get their seeds from torch's global generator when an iterator is made: a function of this seed and the
    worker's number, for torch, NumPy and ``random`` alike.
    """
    seed = run_seed + _STRIDE * (epoch + 1) + _OF_DATA
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


def begin_data_again(trainer: pl.Trainer) -> None:
    """Make the iterator over training data anew.

    Where a run resumes, Lightning makes it before samplers know the epoch, and workers fetch what epoch 0 begins with.
    """
    fetcher = trainer.fit_loop._data_fetcher
    assert fetcher is not None
    iter(fetcher)
