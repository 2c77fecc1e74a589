"""Training samples held out as validation batches, for methods that learn weights on them."""

from collections.abc import Callable
from numbers import Real

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from recon.data.batches import Batch
from recon.errors import number_of

TRAINING, VALIDATION = "train", "validation"

Loaders = DataLoader[Batch] | dict[str, DataLoader[Batch]]
"""A loader of training data, or ``{"train": loader, "validation": loader of held-out data}``."""

# Beside the streams of the other draws of a data module's seed.
_STREAM = 71


def check_held_out(share: float) -> float:
    """Return the share of training samples to hold out if it lies in [0, 0.5].

    With more, an epoch would pass over the rest several times.

    Raises:
        ValueError: It does not.
    """
    if not isinstance(share, Real) or isinstance(share, bool) or not 0 <= share <= 0.5:
        raise ValueError(f"held_out is {share!r}; it must be a share of the training samples, a number in [0, 0.5]")
    return float(share)


def training_loaders(
    loader_of: Callable[[Tensor | None], DataLoader[Batch]], size: int, share: float, seed: int
) -> Loaders:
    """The loader of training data; with a share to hold out, those of both parts.

    >>> from torch.utils.data import DataLoader
    >>> loaders = training_loaders(lambda indices: DataLoader(indices), size=10, share=0.2, seed=0)
    >>> {name: torch.cat(list(loader)).tolist() for name, loader in loaders.items()}
    {'train': [0, 1, 2, 3, 5, 6, 7, 9], 'validation': [4, 8]}

    Args:
        loader_of: The loader of some training samples by their indices, or of all.
        size: Number of training samples.
        share: Share to hold out, drawn by the seed; 0 for none.
        seed: Seed of the draw.

    Raises:
        ValueError: The share is less than half a sample, or leaves none to train on.
    """
    if not share:
        return loader_of(None)
    number = round(share * size)
    if not 0 < number < size:
        raise ValueError(
            f"held_out is {share:g}, of {number_of(size, 'training sample')}, which is {number}; give a larger share"
        )
    order = torch.from_numpy(np.random.default_rng([seed, _STREAM]).permutation(size))
    held_out, trained = order[:number].sort().values, order[number:].sort().values
    return {TRAINING: loader_of(trained), VALIDATION: loader_of(held_out)}


def shown(share: float) -> str:
    """The share in the name of a data set, behind other settings; nothing without one."""
    return f", held_out={share:g}" if share else ""
