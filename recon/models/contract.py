"""The contract of backbones: what a shared network says about itself.

A backbone is an ``nn.Module`` that maps inputs to features. It fulfils :class:`LinearHeads` or
:class:`OwnHeads`, unless heads are given by hand, and may fulfil :class:`TaskSpecificLayers`,
:class:`OwnDraws` or :class:`ForTasks`. A module inside it may fulfil :class:`Regularised`,
:class:`Scheduled` or :class:`OwnRate`.

The functions below decide which protocol a network fulfils. ``isinstance`` would not do: from
Python 3.12 on it does not see the attributes that ``torch.compile`` hands on.
"""

from collections.abc import Sequence
from typing import Protocol, TypeGuard

from torch import Tensor, nn


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


class OwnDraws(Protocol):
    """A backbone whose task-specific layers start from a draw of their own for each task."""

    def drawn_anew(self) -> nn.Module:
        """A copy whose task-specific layers have new start values; all others keep theirs."""


class ForTasks(Protocol):
    """A plan of a network that depends on the tasks, such as one column per task."""

    def for_tasks(self, tasks: Sequence[str]) -> nn.Module:
        """A new network of these tasks; its forward returns ``{task: features}``."""


class Regularised(Protocol):
    """A module of a task's own that adds a term to the loss of its task, such as a sparse gate."""

    def regulariser(self) -> Tensor | None:
        """The term of the last forward in training, a scalar, once; ``None`` without one."""


class Scheduled(Protocol):
    """A module that changes with the epochs of training, such as a temperature."""

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        """Set the state of an epoch, the first of which is 0; a resumed run calls it too."""


class OwnRate(Protocol):
    """A module whose own parameters are trained with another learning rate than the network.

    Attributes:
        own_lr_scale: Factor on the learning rate.
    """

    own_lr_scale: float


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


def has_own_draws(network: nn.Module) -> TypeGuard[OwnDraws]:
    """Whether a network fulfils :class:`OwnDraws`."""
    return getattr(network, "drawn_anew", None) is not None


def has_regulariser(module: nn.Module) -> TypeGuard[Regularised]:
    """Whether a module fulfils :class:`Regularised`."""
    return getattr(module, "regulariser", None) is not None


def has_schedule(module: nn.Module) -> TypeGuard[Scheduled]:
    """Whether a module fulfils :class:`Scheduled`."""
    return getattr(module, "begin_epoch", None) is not None


def has_for_tasks(network: nn.Module) -> TypeGuard[ForTasks]:
    """Whether a network fulfils :class:`ForTasks`."""
    return getattr(network, "for_tasks", None) is not None


def has_own_rate(module: nn.Module) -> TypeGuard[OwnRate]:
    """Whether a module fulfils :class:`OwnRate`."""
    return isinstance(getattr(module, "own_lr_scale", None), float)


def for_tasks(backbone: nn.Module, tasks: Sequence[str]) -> nn.Module:
    """The network of these tasks, if the backbone fulfils :class:`ForTasks`; otherwise itself."""
    return backbone.for_tasks(tasks) if has_for_tasks(backbone) else backbone
