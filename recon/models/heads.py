"""Heads: from shared features to one task's prediction."""

from collections.abc import Callable, Iterable
from functools import partial

from torch import nn

from recon.models.contract import has_linear_heads, has_own_heads
from recon.tasks.task import Task


def heads_for(backbone: nn.Module, tasks: Iterable[Task]) -> nn.ModuleDict:
    """One head per task, of the kind that goes with the backbone.

    The backbone's method ``task_head(outputs)`` makes the heads if it has one, as networks for
    dense prediction do. Otherwise they are linear layers from its ``num_features``.

    >>> from recon.models import LeNet
    >>> from recon.tasks import classification
    >>> heads_for(LeNet(), [classification("digit", 10), classification("letter", 26)])
    ModuleDict(
      (digit): Linear(in_features=50, out_features=10, bias=True)
      (letter): Linear(in_features=50, out_features=26, bias=True)
    )

    Args:
        backbone: The shared network.
        tasks: The tasks, of distinct names; each head has as many outputs as its task asks for.

    Returns:
        Task name -> head, in the order of ``tasks``.

    Raises:
        ValueError: The backbone has neither; or two tasks have the same name.
    """
    if has_own_heads(backbone):
        return _heads(backbone.task_head, tasks)
    if not has_linear_heads(backbone):
        raise ValueError(
            f"{type(backbone).__name__} does not say its num_features; set that attribute or give the heads"
        )
    return linear_heads(backbone.num_features, tasks)


def linear_heads(num_features: int, tasks: Iterable[Task]) -> nn.ModuleDict:
    """One linear layer per task.

    >>> from recon.tasks import classification
    >>> linear_heads(64, [classification("digit", 10)])["digit"]
    Linear(in_features=64, out_features=10, bias=True)

    Args:
        num_features: Number of the backbone's features.
        tasks: The tasks, of distinct names; each head has as many outputs as its task asks for.

    Returns:
        Task name -> ``Linear(num_features, task.outputs)``, in the order of ``tasks``.

    Raises:
        ValueError: Two tasks have the same name.
    """
    return _heads(partial(nn.Linear, num_features), tasks)


def _heads(make: Callable[[int], nn.Module], tasks: Iterable[Task]) -> nn.ModuleDict:
    heads = nn.ModuleDict()
    for task in tasks:
        if task.name in heads:
            raise ValueError(f"two tasks are named {task.name!r}; each needs a name of its own")
        heads[task.name] = make(task.outputs)
    return heads
