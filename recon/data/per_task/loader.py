"""One loader over the loaders of several tasks."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, Self, get_args

import torch
from pytorch_lightning.utilities import CombinedLoader

from recon.data.per_task.parts import Part, TaskParts, set_epoch
from recon.errors import unknown_name

Mode = Literal["max_size_cycle", "max_size", "min_size", "sequential"]
"""How the lengths of loaders go together, as ``CombinedLoader`` calls it."""


class TaskLoader(CombinedLoader):
    """Lightning's ``CombinedLoader`` of one loader per task: batches ``{task: (inputs, target)}``.

    As with its parent, an iteration gives ``(batch, batch_idx, 0)``, which the trainer unpacks.

    >>> from torch.utils.data import DataLoader
    >>> one = DataLoader([(1, {"a": 2})], batch_size=None)
    >>> two = DataLoader([(3, {"b": 4}), (5, {"b": 6})], batch_size=None)
    >>> for batch, number, _ in TaskLoader({"a": one, "b": two}, "max_size_cycle"):
    ...     print(batch)
    {'a': (1, 2), 'b': (3, 4)}
    {'a': (1, 2), 'b': (5, 6)}

    Args:
        loaders: Task -> its loader.
        mode: ``"max_size_cycle"`` ends with the longest loader, and begins shorter ones again, in
            another order. ``"max_size"`` leaves out tasks whose loader has ended, as ``None``.
            ``"min_size"`` ends with the shortest. ``"sequential"`` takes one task after the other,
            one a batch.
        targets: Task -> its name in the batches of its loader, where that is another one.
        epoch: Gives the number of the epoch; :meth:`set_epoch` is another way.

    Raises:
        ValueError: An unknown mode.
    """

    def __init__(
        self,
        loaders: Mapping[str, Iterable[Any]],
        mode: Mode = "max_size_cycle",
        targets: Mapping[str, str] | None = None,
        epoch: Callable[[], int] = int,
    ) -> None:
        if mode not in get_args(Mode):
            raise unknown_name("mode", mode, get_args(Mode))
        # The trainer refuses to train in its own "sequential", whose batches do not say of which
        # loader they are. Here they do.
        super().__init__(dict(loaders), "max_size" if mode == "sequential" else mode)
        self.mode: Mode = mode
        self._targets = targets or {}
        self._epoch = epoch
        self._joined: CombinedLoader | None = None
        self._number = 0

    def set_epoch(self, epoch: int) -> None:
        """Select the epoch for the order of the next iteration, in a loop of your own."""
        self._epoch = lambda: epoch
        for loader in self.flattened:
            set_epoch(loader, epoch)

    def __iter__(self) -> Self:
        parts = {
            task: TaskParts(task, self._targets.get(task, task), loader, self._epoch)
            for task, loader in self.iterables.items()
        }
        self._joined = CombinedLoader(parts, self.mode)
        self._joined.limits = self.limits
        self._number = 0
        iter(self._joined)
        return self

    def __next__(self) -> tuple[dict[str, Part | None], int, int]:
        assert self._joined is not None
        if self._number == 0:  # all draws of the epoch that are not the loaders' own follow from this one
            seed = int(torch.empty((), dtype=torch.int64).random_())
            for number, parts in enumerate(self._joined.flattened):
                parts.seed = seed + number
        given, _, which = next(self._joined)
        batch = {[*self.iterables][which]: given} if self.mode == "sequential" else given
        self._number += 1
        return batch, self._number - 1, 0

    def __len__(self) -> int:
        if self._joined is None:
            raise RuntimeError("Please call `iter(combined_loader)` first.")  # as the parent does
        return len(self._joined)

    def reset(self) -> None:
        """Forget the iteration, and shut down workers."""
        super().reset()
        self._joined = None
