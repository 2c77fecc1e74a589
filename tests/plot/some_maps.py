"""Maps that pictures are drawn of."""

from itertools import combinations

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from recon.conflict import MeasuredMap


def axes() -> Axes:
    return Figure().subplots()


def measured(**cosines: list[float]) -> MeasuredMap:
    """A map of two tasks that observed these cosines in these layers."""
    return of_tasks(["a", "b"], cosines)


def of_tasks(tasks: list[str], cosines: dict[str, list[float]]) -> MeasuredMap:
    """A map of which every pair of tasks observed these cosines in these layers."""
    pairs = len(list(combinations(tasks, 2)))
    histogram = torch.zeros(len(cosines), pairs, 200, dtype=torch.int64)
    means = torch.zeros(len(cosines), pairs, dtype=torch.float64)
    for layer, values in enumerate(cosines.values()):
        means[layer] = sum(values) / len(values)
        for value in values:
            histogram[layer, :, int(value * 100) + 100] += 1
    norms = torch.ones(len(cosines), len(tasks), dtype=torch.float64)
    return MeasuredMap(dict.fromkeys(cosines, 1), tasks, histogram, means, norms, {})
