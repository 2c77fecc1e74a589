"""The share of one of several processes in the batches of a run.

R processes with a batch size of b split each batch that one process with a batch size of R b sees.
The shares of a batch differ by one sample at most. A last batch of fewer samples than processes
leaves some of them an empty batch; a step there takes part without a loss.

Evaluation counts every sample once. Each process has one run of consecutive samples, in order, and
as many batches as the others.
"""

from dataclasses import dataclass
from typing import Any

import torch
from pytorch_lightning.strategies import ParallelStrategy
from torch import Tensor

from recon.errors import number_of


@dataclass(frozen=True)
class Share:
    """One of the processes that share batches.

    >>> [Share(rank, processes=2).of(torch.arange(5)).tolist() for rank in (0, 1)]
    [[0, 1, 2], [3, 4]]

    Args:
        rank: Number of the process, from 0.
        processes: Number of processes.
    """

    rank: int
    processes: int

    def of(self, batch: Tensor) -> Tensor:
        """The part of a batch, ``(n,)`` indices, that the process takes; it may be empty."""
        return torch.tensor_split(batch, self.processes)[self.rank]


WHOLE = Share(rank=0, processes=1)
"""The share of a process that is alone: everything."""


def own_share() -> Share:
    """The share of this process, by torch's process group; :data:`WHOLE` without one."""
    distributed: Any = torch.distributed
    if not distributed.is_available() or not distributed.is_initialized():
        return WHOLE
    return Share(distributed.get_rank(), distributed.get_world_size())


def shared_in_order(size: int, batch_size: int, share: Share) -> list[Tensor]:
    """The batches of one process in an evaluation: every sample is in one batch of one process.

    >>> for rank in (0, 1):
    ...     print(shared_in_order(size=5, batch_size=2, share=Share(rank, processes=2)))
    [tensor([0, 1]), tensor([2])]
    [tensor([3]), tensor([4])]

    Args:
        size: Number of samples.
        batch_size: Largest number of samples in a batch. No batch is empty: with uneven shares and
            a batch size of one, one batch has two samples.
        share: The process.

    Raises:
        ValueError: There are fewer samples than processes.
    """
    if size < share.processes:
        raise ValueError(
            f"{number_of(size, 'sample')} cannot be shared by {share.processes} processes in an evaluation; use "
            "fewer devices, or more samples"
        )
    own = share.of(torch.arange(size))
    if share.processes == 1:
        return list(torch.split(own, batch_size))
    smallest, largest = size // share.processes, -(-size // share.processes)
    return list(torch.tensor_split(own, min(smallest, -(-largest // batch_size))))


def smallest_last_batch(trainer: Any) -> int:
    """Smallest last batch, over all processes, that a trainer can train on.

    Batch normalisation needs two values. With ``sync_batchnorm`` every process takes part in it,
    and needs a sample.

    Args:
        trainer: A Lightning trainer, or ``None``.
    """
    strategy = None if trainer is None else trainer.strategy
    synced = isinstance(strategy, ParallelStrategy) and strategy._layer_sync is not None
    return max(2, trainer.world_size) if synced else 2
