"""The parts of a batch ``(inputs, {task: target})``, also as Lightning's loaders wrap it."""

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from recon.branching import BranchedModule
from recon.gradients.wrappers import unwrapped

Batch = tuple[Any, Mapping[str, Tensor]]
"""Inputs, a tensor or a mapping of a network's keyword arguments; and each task's target."""


def inputs_and_targets(batch: Any) -> Batch:
    """The two parts of a batch.

    >>> inputs_and_targets({"train": ("images", {"digit": "labels"})})
    ('images', {'digit': 'labels'})

    Args:
        batch: ``(inputs, {task: target})``, a tuple or list. It may be wrapped as a
            ``CombinedLoader`` of a single loader wraps it: ``{name: batch}``, ``[batch]``, or
            ``(batch, batch_idx, dataloader_idx)`` in a loop by hand.

    Raises:
        ValueError: The batch has another form.
    """
    plain = _unwrapped(batch)
    if _is_plain(plain):
        return plain[0], plain[1]
    raise ValueError(f"a batch is {_description(plain)}; {_cure(plain)}")


def inputs_of(batch: Any) -> Any:
    """The inputs of a batch for prediction.

    Args:
        batch: Inputs alone, inputs in a sequence of one, or a batch with targets.

    Raises:
        ValueError: A sequence of several things that is not ``(inputs, {task: target})``.
    """
    plain = _unwrapped(batch)
    if isinstance(plain, tuple | list):
        return plain[0] if len(plain) == 1 else inputs_and_targets(plain)[0]
    return plain


def takes_keywords(network: nn.Module, names: Iterable[str]) -> bool:
    """Whether a network's forward takes arguments of these names, and needs no other.

    Args:
        network: Any module. Of a compiled or branched one, the backbone's forward counts.
        names: Names of keyword arguments.
    """
    network = unwrapped(network)
    forward = network.shared.forward if isinstance(network, BranchedModule) else network.forward
    try:
        inspect.signature(forward).bind(**dict.fromkeys(names))
    except TypeError:
        return False
    return True


def _is_plain(batch: Any) -> bool:
    return isinstance(batch, tuple | list) and len(batch) == 2 and isinstance(batch[1], Mapping)


def _unwrapped(batch: Any) -> Any:
    if isinstance(batch, tuple) and len(batch) == 3 and all(isinstance(index, int) for index in batch[1:]):
        return _unwrapped(batch[0])
    if isinstance(batch, Mapping | tuple | list) and len(batch) == 1:
        (only,) = batch.values() if isinstance(batch, Mapping) else batch
        if _is_plain(only):
            return only
    return batch


def _cure(batch: Any) -> str:
    parts = list(batch.values()) if isinstance(batch, Mapping) else batch
    if isinstance(parts, tuple | list) and any(_is_plain(part) for part in parts):
        return (
            "several loaders at a time, or data of each task's own, are not supported yet; give one loader whose "
            "Dataset returns (inputs, {task: target}) with every task's target"
        )
    return "it should be (inputs, {task: target}); let the Dataset return that"


def _description(batch: Any) -> str:
    if isinstance(batch, Mapping):
        return f"a {type(batch).__name__} with the keys {[*batch]}"
    if isinstance(batch, tuple | list):
        return f"a {type(batch).__name__} of {', '.join(type(part).__name__ for part in batch) or 'nothing'}"
    return f"of type {type(batch).__name__}"
