"""Training data in two fixed parts: one for the architecture, one for the weights.

The part of a sample depends on its index and on the seed alone, so that a resumed search holds out
the same samples. Each part comes in the order of the loader that was split, in batches of its size.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, Sampler

from recon.data.held_out import TRAINING, VALIDATION

ARCHITECTURE, WEIGHTS = "architecture", "weights"


class Alternation:
    """An epoch of a search: the batches of the architecture, then those of the weights.

    >>> epoch = Alternation([1], [2, 3], limit=1.0)
    >>> list(epoch)
    [{'architecture': 1}, {'weights': 2}, {'weights': 3}]

    Args:
        architecture: Batches by which the choices learn.
        weights: Batches by which the weights learn.
        limit: Number of batches of each part, or the share of them, as ``limit_train_batches``.

    Raises:
        ValueError: A part has no batch.
    """

    def __init__(self, architecture: Any, weights: Any, limit: int | float) -> None:
        self.parts = {ARCHITECTURE: architecture, WEIGHTS: weights}
        self.lengths = {phase: _limited(len(part), limit) for phase, part in self.parts.items()}
        for phase, length in self.lengths.items():
            if length == 0:
                raise ValueError(f"there is no batch for the {phase}; give more samples, or another share")

    def __len__(self) -> int:
        return sum(self.lengths.values())

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for phase, part in self.parts.items():
            # Samplers may give fewer batches in some epochs, and an epoch has a fixed number.
            batches = chain.from_iterable(iter(part) for _ in range(self.lengths[phase]))
            for batch in islice(batches, self.lengths[phase]):
                yield {phase: batch}

    def set_epoch(self, epoch: int) -> None:
        """Select the epoch for the order of the next iteration."""
        for part in self.parts.values():
            for sampler in (getattr(part, "sampler", None), getattr(part, "batch_sampler", None)):
                if callable(set_epoch := getattr(sampler, "set_epoch", None)):
                    set_epoch(epoch)


def alternation(loader: Any, share: float, seed: int, limit: int | float) -> Alternation:
    """An epoch of a search from the loader of training data.

    Args:
        loader: A ``DataLoader`` whose samples are split; or ``{"train": ..., "validation": ...}``,
            of which the second part is for the architecture.
        share: Share of the samples for the architecture.
        seed: Seed of the split.
        limit: As ``limit_train_batches`` of the trainer.

    Raises:
        ValueError: The data cannot be split.
    """
    if isinstance(loader, Mapping) and set(loader) == {TRAINING, VALIDATION}:
        return Alternation(loader[VALIDATION], loader[TRAINING], limit)
    if not isinstance(loader, DataLoader) or isinstance(loader.dataset, IterableDataset):
        raise ValueError(
            f"a loader of type {type(loader).__name__} cannot be split into samples for the architecture and for the "
            f"weights; let train_dataloader return {{{TRAINING!r}: loader, {VALIDATION!r}: loader of held-out data}}"
        )
    size = len(loader.dataset)  # type: ignore[arg-type]
    held_out = np.random.default_rng(seed).permutation(size) < round(share * size)
    return Alternation(_part(loader, held_out), _part(loader, ~held_out), limit)


def _part(loader: DataLoader[Any], members: Any) -> DataLoader[Any]:
    """The loader of some of the samples; ``members`` is a mask over the data set."""
    options: dict[str, Any] = {
        name: getattr(loader, name)
        for name in ("num_workers", "collate_fn", "pin_memory", "timeout", "worker_init_fn", "generator")
    }
    if loader.num_workers:
        options |= {"persistent_workers": loader.persistent_workers, "prefetch_factor": loader.prefetch_factor}
        options["multiprocessing_context"] = loader.multiprocessing_context
    if loader.batch_sampler is not None:
        batches = PartOfBatches(loader.batch_sampler, members, drop_last=loader.drop_last)
        return DataLoader(loader.dataset, batch_sampler=batches, **options)
    return DataLoader(loader.dataset, batch_size=None, sampler=PartOfBatches(loader.sampler, members), **options)


class PartOfBatches(Sampler[Any]):
    """The members among the indices that a sampler gives, in batches of the same size and form.

    >>> members = np.array([True, True, False, True, True])
    >>> list(PartOfBatches([[3, 0], [2, 1], [4]], members))
    [[3, 0], [1, 4]]

    Args:
        batches: A sampler of batches: lists or tensors of indices, or pairs of an epoch and a list.
        members: Mask over the data set.
        drop_last: Whether a smaller last batch is left out. One of a single sample always is, since
            batch norm cannot be trained on it, if there are others.
    """

    def __init__(self, batches: Iterable[Any], members: Any, drop_last: bool = False) -> None:
        self.batches, self.members, self.drop_last = batches, members, drop_last
        self._length: int | None = None

    def __len__(self) -> int:
        if self._length is None:  # an iteration draws from generators, and is made once
            state = torch.random.get_rng_state()
            self._length = sum(1 for _ in self)
            torch.random.set_rng_state(state)
        return self._length

    def __iter__(self) -> Iterator[Any]:
        size, form, waiting, emitted = 0, None, [], 0
        for batch in self.batches:
            form, indices = _taken_apart(batch)
            size = max(size, len(indices))
            waiting += [index for index in indices if self.members[index]]
            while len(waiting) >= size:
                yield form(waiting[:size])
                waiting, emitted = waiting[size:], emitted + 1
        if form is not None and waiting and not self.drop_last and (len(waiting) > 1 or not emitted):
            yield form(waiting)

    def set_epoch(self, epoch: int) -> None:
        """Select the epoch of the sampler, and of the one inside it."""
        for sampler in (self.batches, getattr(self.batches, "sampler", None)):
            if callable(set_epoch := getattr(sampler, "set_epoch", None)):
                set_epoch(epoch)


def _taken_apart(batch: Any) -> tuple[Any, list[int]]:
    """How a batch is made of its indices, and the indices."""
    if isinstance(batch, Tensor):
        return torch.tensor, batch.tolist()
    if isinstance(batch, list):
        return list, batch
    if isinstance(batch, tuple) and len(batch) == 2 and isinstance(batch[1], list):
        return lambda indices: (batch[0], indices), batch[1]
    raise ValueError(
        f"a sampler of {type(batch).__name__} cannot be split; let train_dataloader return {{{TRAINING!r}: loader, "
        f"{VALIDATION!r}: loader of held-out data}}"
    )


def _limited(length: int, limit: int | float) -> int:
    return min(length, limit) if isinstance(limit, int) else int(length * limit)
