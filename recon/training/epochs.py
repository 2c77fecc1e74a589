"""The start of an epoch: its seeds and schedules, so that a resumed run repeats its draws.

Each epoch's seeds come from the run's seed. Processes that train together have seeds of their own,
so that dropout and views differ in them.
"""

import random

import numpy as np
import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.distributed import DistributedSamplerWrapper
from torch import nn
from torch.utils.data import DistributedSampler

from recon.models.contract import has_schedule

_STRIDE = 1_000_003  # between the seeds of epochs, a prime
_OF_DATA = 500_009  # what tells the seed of an epoch's data from that of its training
_OF_RANK = 15_485_863  # between the seeds of processes, a prime


def seed_training(run_seed: int, epoch: int, rank: int = 0) -> None:
    """Seed the random draws of training in an epoch, such as dropout.

    Args:
        run_seed: Seed of the run.
        epoch: Number of the epoch, from 0.
        rank: Number of the process among those that train together.
    """
    torch.manual_seed(run_seed + _STRIDE * (epoch + 1) + _OF_RANK * rank)


def seed_data(run_seed: int, epoch: int, rank: int = 0) -> None:
    """Seed the random draws of an epoch's data: ``shuffle=True``, workers' seeds, augmentation.

    Workers get their seeds from torch's global generator when an iterator is made: a function of
    this seed and the worker's number, for torch, NumPy and ``random`` alike.

    Args:
        run_seed: Seed of the run.
        epoch: Number of the epoch, from 0.
        rank: Number of the process, see :func:`data_rank`.
    """
    seed = run_seed + _STRIDE * (epoch + 1) + _OF_DATA + _OF_RANK * rank
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


def data_rank(trainer: pl.Trainer) -> int:
    """The number of the process where that may enter the seed of its data, otherwise 0.

    A sampler of the user's own may draw one order in all processes, of which each takes a part: it
    needs the same seed in all. Samplers that know their part need none.

    Args:
        trainer: The trainer, with its loaders of training data.
    """
    combined = trainer.fit_loop._combined_loader
    assert combined is not None
    samplers = [getattr(loader, "sampler", None) for loader in combined.flattened]
    known = all(
        isinstance(one, DistributedSampler) and not isinstance(one, DistributedSamplerWrapper) for one in samplers
    )
    return trainer.global_rank if known else 0


def begin_data_again(trainer: pl.Trainer) -> None:
    """Make the iterator over training data anew.

    In a resumed run Lightning makes it before samplers know the epoch, so its workers fetch the
    first batches of epoch 0.
    """
    fetcher = trainer.fit_loop._data_fetcher
    assert fetcher is not None
    iter(fetcher)


def begin_epoch_of(network: nn.Module, epoch: int, epochs: int) -> None:
    """Set the modules of a network that change with the epochs, such as LTB's temperatures.

    Args:
        network: The network.
        epoch: Number of the epoch, from 0.
        epochs: Number of epochs of training; -1 if unknown.
    """
    for module in network.modules():
        if has_schedule(module):
            module.begin_epoch(epoch, epochs)
