"""The metrics of evaluation, as part of a network."""

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import nn
from torchmetrics import Metric, MetricCollection

from recon.tasks.task import Task

STAGES = ("val", "test")


class EvaluationMetrics(nn.ModuleDict):
    """Stage -> task -> its metrics, which Lightning logs as ``stage/task/metric``.

    They follow the network to another device, but keep the precision of their states: sums in
    bfloat16 stop growing after some hundred samples.

    Args:
        tasks: The tasks.
    """

    def __init__(self, tasks: list[Task]) -> None:
        super().__init__({stage: _of_stage(stage, tasks) for stage in STAGES})

    def of(self, stage: str, task: str) -> MetricCollection:
        """The metrics of a task."""
        collection = self.get_submodule(f"{stage}.{task}")
        assert isinstance(collection, MetricCollection)
        return collection

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        metric = next((module for module in self.modules() if isinstance(module, Metric)), None)
        if metric is None:
            return self
        device = fn(torch.empty(0, device=metric.device)).device
        return super()._apply(lambda tensor: tensor.to(device), recurse)


def _of_stage(stage: str, tasks: list[Task]) -> nn.ModuleDict:
    return nn.ModuleDict(
        {task.name: MetricCollection({**task.metrics()}, prefix=f"{stage}/{task.name}/") for task in tasks}
    )
