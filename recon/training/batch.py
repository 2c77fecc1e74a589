"""The parts of a batch, also as Lightning's loaders wrap it.

A batch has inputs that all tasks take, ``(inputs, {task: target})``, or inputs of each task's own,
``{task: (inputs, target)}``.
"""

import inspect
import warnings
from collections.abc import Collection, Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from torch import nn

from recon.branching import BranchedModule
from recon.errors import unknown_name
from recon.gradients.wrappers import unwrapped
from recon.models.architectures.bmtas.network import BMTASNetwork

Batch = tuple[Any, Mapping[str, Any]]
"""Inputs, a tensor or a mapping of a network's keyword arguments; and each task's target."""


def inputs_and_targets(batch: Any) -> Batch:
    """The two parts of a batch whose inputs all tasks take.

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


def per_task(batch: Any, tasks: Collection[str]) -> dict[str, tuple[Any, Any]] | None:
    """The parts of a batch with inputs of each task's own; ``None`` if it has another form.

    >>> per_task({"digit": ("photos", "labels"), "letter": None}, ["digit", "letter"])
    {'digit': ('photos', 'labels')}

    Args:
        batch: ``{task: (inputs, target)}``; a value of ``None`` leaves its task out. It may be
            wrapped as ``(batch, batch_idx, dataloader_idx)`` in a loop by hand.
        tasks: All tasks of the data.

    Raises:
        ValueError: A task is unknown; the error names the nearest.
    """
    own = _without_indices(batch)
    if not isinstance(own, Mapping) or not own or not all(_is_own(part, tasks) for part in own.values()):
        return None
    unknown = [name for name in own if name not in tasks]
    if len(unknown) == 1 == len(own):  # one loader by any name
        return None
    if unknown:
        raise unknown_name("task", str(unknown[0]), tasks, "the batch")
    return {task: (part[0], part[1]) for task, part in own.items() if part is not None}


def check_names(targets: Iterable[str], tasks: Collection[str], known: Collection[str]) -> None:
    """Refuse targets of a name that seems to be that of a missing task, and warn of other names.

    Args:
        targets: The names of a batch's targets.
        tasks: The tasks whose targets are looked for; each may be missing.
        known: All tasks of the data.

    Raises:
        ValueError: A target's name is no task, but near to one that has no target.
    """
    given = [str(name) for name in targets]
    missing = [task for task in tasks if task not in given]
    unknown = [name for name in given if name not in known]
    if not missing or not unknown:
        return
    for name in unknown:
        if get_close_matches(name, missing):
            raise unknown_name("task", name, missing, "the batch")
    warnings.warn(
        f"a batch has no targets of {missing}, and targets of the unknown names {unknown}; "
        "a target goes by the name of its task",
        stacklevel=2,
    )


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
        network: Any module. Of a compiled or branched one, or one of copies, the backbone's forward
            counts.
        names: Names of keyword arguments.
    """
    network = unwrapped(network)
    if isinstance(network, BranchedModule | BMTASNetwork):
        network = network.shared if isinstance(network, BranchedModule) else network.backbone
    forward = network.forward
    try:
        inspect.signature(forward).bind(**dict.fromkeys(names))
    except TypeError:
        return False
    return True


def _is_plain(batch: Any) -> bool:
    return isinstance(batch, tuple | list) and len(batch) == 2 and isinstance(batch[1], Mapping)


def _is_own(part: Any, tasks: Collection[str]) -> bool:
    """Whether a part is ``(inputs, target)`` of one task: its target has no targets by task."""
    if part is None:
        return True
    if not isinstance(part, tuple | list) or len(part) != 2:
        return False
    return not (isinstance(part[1], Mapping) and any(name in tasks for name in part[1]))


def _without_indices(batch: Any) -> Any:
    if isinstance(batch, tuple) and len(batch) == 3 and all(isinstance(index, int) for index in batch[1:]):
        return _without_indices(batch[0])
    return batch


def _unwrapped(batch: Any) -> Any:
    batch = _without_indices(batch)
    if isinstance(batch, Mapping | tuple | list) and len(batch) == 1:
        (only,) = batch.values() if isinstance(batch, Mapping) else batch
        if _is_plain(only):
            return only
    return batch


def _cure(batch: Any) -> str:
    parts = list(batch.values()) if isinstance(batch, Mapping) else batch
    if isinstance(parts, tuple | list) and any(_is_plain(part) for part in parts):
        return (
            "several loaders at a time are not supported; give one loader whose Dataset returns "
            "(inputs, {task: target}), or for data of each task's own recon.data.PerTask({task: data module})"
        )
    if isinstance(batch, Mapping):
        return (
            "it should be (inputs, {task: target}), or {task: (inputs, target)} with names of tasks; let the Dataset "
            "return one of these"
        )
    return "it should be (inputs, {task: target}); let the Dataset return that"


def _description(batch: Any) -> str:
    if isinstance(batch, Mapping):
        return f"a {type(batch).__name__} with the keys {[*batch]}"
    if isinstance(batch, tuple | list):
        return f"a {type(batch).__name__} of {', '.join(type(part).__name__ for part in batch) or 'nothing'}"
    return f"of type {type(batch).__name__}"
