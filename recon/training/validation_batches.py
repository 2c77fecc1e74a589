"""Validation batches beside the training batches, for methods that learn weights from them."""

from collections.abc import Mapping
from typing import Any

from recon.data.held_out import TRAINING, VALIDATION
from recon.errors import number_of
from recon.methods import Method


def divided(batch: Any, loaders: object) -> tuple[Any, Any]:
    """The training and the validation batch of one step; ``None`` without a loader of the latter.

    >>> divided({"train": 1, "validation": 2}, {"train": [1], "validation": [2]})
    (1, 2)
    >>> divided(1, [1])
    (1, None)
    """
    return (batch[TRAINING], batch[VALIDATION]) if has_validation(loaders) else (batch, None)


def refuse_missing_validation(method: Method, loaders: object, tasks: int) -> None:
    """Refuse to train a method that needs validation batches without a loader of them.

    Args:
        method: The method.
        loaders: What the trainer loads its training batches from.
        tasks: Number of tasks that are trained.

    Raises:
        ValueError: The method needs validation batches, and there are none; or there are more than
            training batches, which an epoch would then see several times.
    """
    if isinstance(loaders, Mapping) and has_validation(loaders):
        training, validation = (_length(loaders[name]) for name in (TRAINING, VALIDATION))
        if training is not None and validation is not None and validation > training:
            raise ValueError(
                f"the loader of validation batches has {number_of(validation, 'batch', 'batches')} and that of "
                f"training {training}, so an "
                "epoch would pass over the training data again; give larger validation batches, or fewer samples"
            )
    elif method.needs_validation and tasks == 1:
        raise ValueError(
            f"{type(method).__name__} learns the weights of tasks from validation batches, and a single task has no "
            "weight to learn; train it with the method joint, which needs no validation batches"
        )
    elif method.needs_validation:
        raise ValueError(
            f"{type(method).__name__} learns its weights from a validation batch in each step, and there is no loader "
            f"of them; give built-in data held_out=0.1, or let train_dataloader return {{{TRAINING!r}: loader, "
            f"{VALIDATION!r}: loader of held-out data}}, whose samples are neither trained on nor tested on"
        )


def has_validation(loaders: object) -> bool:
    """Whether loaders of training data have validation batches beside them.

    >>> has_validation({"train": [1], "validation": [2]}), has_validation([1])
    (True, False)
    """
    return isinstance(loaders, Mapping) and set(loaders) == {TRAINING, VALIDATION}


def _length(loader: Any) -> int | None:
    """The number of batches; ``None`` of a stream."""
    try:
        return len(loader)
    except TypeError:
        return None
