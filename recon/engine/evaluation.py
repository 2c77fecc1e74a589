"""One evaluation of the network: the task losses and the features behind them."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from recon.engine.checks import At, check_mapping


class Evaluation(dict[str, Tensor]):
    """Task -> loss, which carries the features that all heads took.

    Args:
        losses: Task -> scalar loss.
        features: The features; ``None`` if there are none at hand.

    Raises:
        TypeError: The losses are no mapping.
    """

    def __init__(self, losses: Mapping[str, Tensor], features: Tensor | None = None) -> None:
        check_mapping(losses)
        super().__init__(losses)
        self.features = features

    @classmethod
    def returned(cls, value: Any, at: At) -> "Evaluation":
        """The evaluation that a closure has returned.

        Args:
            value: The losses; at the representation ``(losses, features)``.
            at: Where the method takes the task gradients.
        """
        # Not by unpacking alone: a dict of two losses unpacks into its keys.
        losses, features = value if at == "representation" and isinstance(value, tuple) else (value, None)
        return cls(losses, features)

    @classmethod
    def given(cls, losses: Mapping[str, Tensor], features: Tensor | None) -> "Evaluation":
        """The evaluation of losses that carry their features, or have them beside them."""
        if features is None and isinstance(losses, cls):
            return losses
        return cls(losses, features)
