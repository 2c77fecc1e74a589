"""One evaluation of the network: the task losses, their counts, and the features behind them."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from recon.engine.checks import At, check_mapping


class Evaluation(dict[str, Tensor]):
    """Task -> loss, which carries the counts of labels, and the features that all heads took.

    A closure of :meth:`recon.Engine.step` may return one in place of plain losses.

    Args:
        losses: Task -> scalar loss, for the tasks that the batch has labels of.
        features: The features; ``None`` if there are none at hand.
        counts: Task -> the number of labelled items that the loss is the mean of; ``None`` lets
            every loss count 1.

    Raises:
        TypeError: The losses are no mapping.

    Example:
        >>> import torch
        >>> Evaluation({"seg": torch.tensor(0.5)}, counts={"seg": 12}).counts
        {'seg': 12}
    """

    def __init__(
        self,
        losses: Mapping[str, Tensor],
        features: Tensor | None = None,
        counts: Mapping[str, float] | None = None,
    ) -> None:
        check_mapping(losses)
        super().__init__(losses)
        self.features = features
        self.counts = counts

    @classmethod
    def returned(cls, value: Any, at: At, counts: Mapping[str, float] | None = None) -> "Evaluation":
        """The evaluation that a closure has returned.

        Args:
            value: The losses; at the representation ``(losses, features)``; or an evaluation.
            at: Where the method takes the task gradients.
            counts: Counts of the losses, if the value does not carry them.
        """
        # Not by unpacking alone: a dict of two losses unpacks into its keys.
        losses, features = value if at == "representation" and isinstance(value, tuple) else (value, None)
        return cls.given(losses, features, counts)

    @classmethod
    def given(
        cls, losses: Mapping[str, Tensor], features: Tensor | None, counts: Mapping[str, float] | None
    ) -> "Evaluation":
        """The evaluation of losses that carry features and counts, or have them beside them."""
        if isinstance(losses, cls):
            features = losses.features if features is None else features
            counts = losses.counts if counts is None else counts
        return cls(losses, features, counts)
