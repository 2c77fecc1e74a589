"""The processes that share a training step: sums, shards and copies of tensors among them."""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

# torch is loaded by now, and where it was built without this package it has an empty one.
_distributed: Any = torch.distributed
# The second names are those of torch before 2.13, and deprecated later.
_reduce_scatter: Any = getattr(
    _distributed, "reduce_scatter_single", getattr(_distributed, "reduce_scatter_tensor", None)
)
_all_gather: Any = getattr(_distributed, "all_gather_single", getattr(_distributed, "all_gather_into_tensor", None))


class Work(Protocol):
    """A collective operation that may still run."""

    def wait(self) -> Any:
        """Return when its result can be used."""


class Processes:
    """The processes of a group, or this process alone.

    Every process calls the same functions in the same order, with tensors of the same shapes.

    Args:
        group: A process group; ``None`` for the default group. Without
            ``torch.distributed.init_process_group`` there is one process.

    Attributes:
        group: The group.
        number: R, the number of processes.
        rank: Number of this process in the group, from 0.

    Example:
        >>> alone = Processes()
        >>> alone.number, alone.rank
        (1, 0)
        >>> alone.sum(torch.tensor([1.0, 2.0]))
        tensor([1., 2.])
    """

    def __init__(self, group: Any = None) -> None:
        self.group = group
        self.number: int = _number(group)
        self.rank: int = _distributed.get_rank(group) if _is_initialised() else 0

    @property
    def current(self) -> bool:
        """Whether the group has been neither initialised nor ended since this object was made."""
        return self.number == _number(self.group)

    @property
    def several(self) -> bool:
        """Whether there is more than one process."""
        return self.number > 1

    def sum(self, tensor: Tensor) -> Tensor:
        """Sum a tensor over the processes, in place."""
        if self.several:
            _distributed.all_reduce(tensor, group=self.group)
        return tensor

    def begin_sum(self, tensor: Tensor) -> Work | None:
        """Begin to sum a tensor over the processes, in place."""
        work: Work | None = _distributed.all_reduce(tensor, group=self.group, async_op=True)
        return work

    def begin_shard_sum(self, tensor: Tensor, shard: Tensor) -> Work | None:
        """Begin to sum a tensor (R * S,) over the processes; this one's part (S,) goes to shard."""
        work: Work | None = _reduce_scatter(shard, tensor, group=self.group, async_op=True)
        return work

    def join(self, shard: Tensor) -> Tensor:
        """Join the shards (S,) of all processes to one tensor (R * S,)."""
        whole = shard.new_empty(self.number * shard.numel())
        _all_gather(whole, shard, group=self.group)
        return whole

    def gather(self, tensor: Tensor) -> Tensor:
        """Stack the tensors of all processes: (...) to (R, ...)."""
        return self.join(tensor.flatten()).view(self.number, *tensor.shape)

    def gather_objects(self, own: Any) -> list[Any]:
        """Collect picklable objects of the processes, which may differ in size.

        They are unpickled: the processes are all ours.
        """
        objects = [None] * self.number
        _distributed.all_gather_object(objects, own, group=self.group)
        return objects

    def copy_of_first(self, tensors: Sequence[Tensor]) -> None:
        """Overwrite tensors with those of the first process, in one message for each dtype."""
        for same in _by_kind(tensors):
            flat = torch.cat([tensor.detach().flatten() for tensor in same])
            _distributed.broadcast(flat, group=self.group, group_src=0)
            for tensor, value in zip(same, flat.split([tensor.numel() for tensor in same]), strict=True):
                tensor.detach().copy_(value.view(tensor.shape))


def _is_initialised() -> bool:
    return bool(_distributed.is_available() and _distributed.is_initialized())


def _number(group: Any) -> int:
    return int(_distributed.get_world_size(group)) if _is_initialised() else 1


def _by_kind(tensors: Sequence[Tensor]) -> list[list[Tensor]]:
    kinds: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
    for tensor in tensors:
        kinds.setdefault((tensor.device, tensor.dtype), []).append(tensor)
    return list(kinds.values())
