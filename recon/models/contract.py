"""The contract of backbones: what a shared network says about itself.

A backbone is an ``nn.Module`` that maps inputs to features. It fulfils :class:`LinearHeads` or
:class:`OwnHeads`, unless heads are given by hand, and may fulfil :class:`TaskSpecificLayers`.

The functions below decide which protocol a network fulfils. ``isinstance`` would not do: from
Python 3.12 on it does not see the attributes that ``torch.compile`` hands on.
"""

from typing import Protocol, TypeGuard

from torch import nn


class LinearHeads(Protocol):
    """A backbone whose heads are linear layers.

    Attributes:
        num_features: Length of the feature vector of a sample.
    """

    num_features: int


class OwnHeads(Protocol):
    """A backbone that makes its heads itself, as networks for dense prediction do."""

    def task_head(self, outputs: int) -> nn.Module:
        """A new head from the features to a prediction of ``outputs`` channels."""


class TaskSpecificLayers(Protocol):
    """A backbone some of whose layers belong to the tasks by design, such as MTAN's masks."""

    def task_specific_layers(self) -> list[str]:
        """Names of the layers that get one copy per task, whatever the conflict."""


Backbone = LinearHeads | OwnHeads


def has_linear_heads(network: nn.Module) -> TypeGuard[LinearHeads]:
    """Whether a network fulfils :class:`LinearHeads`."""
    return isinstance(getattr(network, "num_features", None), int)


def has_own_heads(network: nn.Module) -> TypeGuard[OwnHeads]:
    """Whether a network fulfils :class:`OwnHeads`."""
    return getattr(network, "task_head", None) is not None


def has_task_specific_layers(network: nn.Module) -> TypeGuard[TaskSpecificLayers]:
    """Whether a network fulfils :class:`TaskSpecificLayers`."""
    return getattr(network, "task_specific_layers", None) is not None
