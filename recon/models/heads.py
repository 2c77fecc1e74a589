"""Heads: what turns shared features into one task's prediction."""

from collections.abc import Iterable

from torch import nn

from recon.tasks import Task


def linear_heads(num_features: int, tasks: Iterable[Task]) -> nn.ModuleDict:
    """One linear layer per task.

    Args:
        num_features: Number of features that the backbone gives.
        tasks: The tasks, of distinct names; each head has as many outputs as its task asks for.

    Returns:
        Task name -> ``Linear(num_features, task.outputs)``, in the order of ``tasks``.

    Raises:
        ValueError: Two tasks have the same name.
    """
    heads = nn.ModuleDict()
    for task in tasks:
        if task.name in heads:
            raise ValueError(f"two tasks are named {task.name!r}; each needs a name of its own")
        heads[task.name] = nn.Linear(num_features, task.outputs)
    return heads
