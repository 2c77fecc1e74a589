"""Random orders in which PCGrad and GradVac visit the other tasks of each task."""

import numpy as np
import torch
from numpy.typing import NDArray


def orders_of_others(tasks: int, generator: torch.Generator) -> NDArray[np.int64]:
    """The other tasks of each of K tasks in random order, (K, K - 1)."""
    order = torch.rand(tasks, tasks, generator=generator, dtype=torch.float32).numpy().argsort(axis=1)
    return order[order != np.arange(tasks)[:, None]].reshape(tasks, tasks - 1)
