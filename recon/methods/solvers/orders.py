"""Random orders in which PCGrad and GradVac visit the other tasks of each task."""

import numpy as np
import torch
from numpy.typing import NDArray


def orders_of_others(groups: int, tasks: int, generator: torch.Generator) -> NDArray[np.int64]:
    """The other tasks of each of K tasks in random order, for each of G groups: (G, K, K - 1).

    The generator draws as it would for one group after the other.

    Example:
        >>> orders_of_others(1, 2, torch.Generator())
        array([[[1],
                [0]]])
    """
    order = torch.rand(groups, tasks, tasks, generator=generator, dtype=torch.float32).numpy().argsort(axis=2)
    return order[order != np.arange(tasks)[:, None]].reshape(groups, tasks, tasks - 1)
