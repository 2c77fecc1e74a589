"""The batches of one task, out of the loader of its own data set."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch

from recon.tasks.labelled import has_mask

_STRIDE = 1_000_003  # between the orders of two rounds of an epoch, a prime

Part = tuple[Any, Any]
"""The inputs and the target of one task."""


class TaskParts:
    """Parts ``(inputs, target)`` of one task, shuffled anew each time that they begin again.

    The first round of an epoch has the order that the loader has in this epoch. Each further round
    has another one, which depends on the epoch, the round, and torch's random state at the first
    batch of the epoch alone. Draws of training do not shift it.

    >>> from torch.utils.data import DataLoader
    >>> loader = DataLoader([(x, {"digit": x % 10}) for x in range(4)], batch_size=2)
    >>> parts = TaskParts("digit", "digit", loader, epoch=lambda: 0)
    >>> [target.tolist() for inputs, target in parts]
    [[0, 1], [2, 3]]

    Args:
        task: The task's name among those that are joined.
        target: Its name in the loader's batches.
        loader: Gives ``(inputs, {target: ...})``, or ``(inputs, target)``.
        epoch: Gives the number of the epoch.
    """

    def __init__(self, task: str, target: str, loader: Iterable[Any], epoch: Callable[[], int]) -> None:
        self.task = task
        self.target = target
        self.loader = loader
        self.epoch = epoch
        self.seed = 0
        self._round = 0

    def __len__(self) -> int:
        return len(self.loader)  # type: ignore[arg-type]  # a TypeError if the loader has no length

    def __iter__(self) -> Iterator[Part]:
        number, self._round = self._round, self._round + 1
        # Not in a generator: Lightning makes the iterator, and with it the workers, before the
        # first batch.
        return map(self._part, self._begun_again(number) if number else iter(self.loader))

    def _begun_again(self, number: int) -> Iterator[Any]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed((self.seed + _STRIDE * number) % 2**63)
            set_epoch(self.loader, self.epoch() + _STRIDE * number)
            batches = iter(self.loader)
            first = next(batches, None)  # a plain shuffle draws its order here
        if first is None:
            raise ValueError(
                f"the data of task {self.task!r} gave no batch when they began again; an IterableDataset has to begin "
                "anew in each iteration"
            )
        yield first
        yield from batches

    def _part(self, batch: Any) -> Part:
        if not isinstance(batch, tuple | list) or len(batch) != 2:
            raise ValueError(
                f"the data of task {self.task!r} give a batch of type {type(batch).__name__}; "
                f"it should be (inputs, {{{self.target!r}: target}})"
            )
        inputs, targets = batch
        if not isinstance(targets, Mapping) or has_mask(targets):
            return inputs, targets
        return inputs, targets.get(self.target)


class OneTask:
    """Batches ``{task: (inputs, target)}`` of a single task.

    Args:
        parts: The task's parts.

    Attributes:
        dataset: The data set of the task's loader. With its samplers, it says which samples are
            those of this process.
        sampler: The loader's sampler.
        batch_sampler: The loader's sampler of batches.
    """

    def __init__(self, parts: TaskParts) -> None:
        self.parts = parts
        self.dataset: Any = getattr(parts.loader, "dataset", None)
        self.sampler: Any = getattr(parts.loader, "sampler", None)
        self.batch_sampler: Any = getattr(parts.loader, "batch_sampler", None)

    def __len__(self) -> int:
        return len(self.parts)

    def __iter__(self) -> Iterator[dict[str, Part]]:
        return ({self.parts.task: part} for part in self.parts)


def set_epoch(loader: Iterable[Any], epoch: int) -> None:
    """Tell the samplers of a loader the epoch, those of them that depend on it."""
    batches = getattr(loader, "batch_sampler", None)
    for sampler in (getattr(loader, "sampler", None), batches, getattr(batches, "sampler", None)):
        if (tell := getattr(sampler, "set_epoch", None)) is not None:
            tell(epoch)
