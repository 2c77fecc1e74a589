"""Validation batches beside the training batches, for methods that learn weights from them."""

from collections.abc import Mapping
from typing import Any

from recon.methods import Method

TRAINING, VALIDATION = "train", "validation"


def divided(batch: Mapping[str, Any]) -> tuple[Any, Any]:
    """The training and the validation batch of one step.

    >>> divided({"train": 1, "validation": 2})
    (1, 2)
    """
    return batch[TRAINING], batch[VALIDATION]


def refuse_missing_validation(method: Method, loaders: object) -> None:
    """Refuse to train a method that needs validation batches without a loader of them.

    Args:
        method: The method.
        loaders: What the trainer loads its training batches from.

    Raises:
        ValueError: The method needs validation batches, and there are none.
    """
    given = isinstance(loaders, Mapping) and set(loaders) == {TRAINING, VALIDATION}
    if method.needs_validation and not given:
        raise ValueError(
            f"{type(method).__name__} learns its weights from a validation batch in each step, and there is no loader "
            f"of them; let train_dataloader return {{{TRAINING!r}: loader, {VALIDATION!r}: loader of held-out data}}, "
            "whose samples are neither trained on nor tested on"
        )
