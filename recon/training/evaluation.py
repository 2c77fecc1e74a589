"""The metrics of evaluation, as part of a network."""

from collections.abc import Callable
from typing import Any, Literal, Self, get_args

import torch
from pytorch_lightning.strategies import Strategy
from torch import nn
from torchmetrics import Metric, MetricCollection

from recon.tasks.task import Task

Stage = Literal["val", "test"]


class EvaluationMetrics(nn.ModuleDict):
    """Stage -> task -> its metrics, which Lightning logs as ``stage/task/metric``.

    They follow the network to another device, but keep the precision of their states: sums in
    bfloat16 stop growing after some hundred samples.

    Args:
        tasks: The tasks.
    """

    def __init__(self, tasks: list[Task]) -> None:
        super().__init__({stage: _of_stage(stage, tasks) for stage in get_args(Stage)})
        self._tasks = [task.name for task in tasks]

    def of(self, stage: str, task: str) -> MetricCollection:
        """The metrics of a task."""
        collection = self.get_submodule(f"{stage}.{task}")
        assert isinstance(collection, MetricCollection)
        return collection

    def names(self, stage: Stage, task: str) -> list[str]:
        """The names by which a task's metrics are logged."""
        return [str(name) for name in self.of(stage, task)]

    def seen(self, stage: Stage) -> list[str]:
        """The tasks whose metrics have been updated since they were last reset."""
        return [task for task in self._tasks if self._has_seen(stage, task)]

    def unseen_anywhere(self, stage: Stage, strategy: Strategy) -> list[str]:
        """The tasks with metrics of which no process has seen a label.

        Args:
            stage: The stage.
            strategy: The trainer's strategy, by which processes agree.
        """
        seen = torch.tensor([float(self._has_seen(stage, task)) for task in self._tasks], device=strategy.root_device)
        total = strategy.reduce(seen, reduce_op="sum")
        assert isinstance(total, torch.Tensor)
        return [task for task, n in zip(self._tasks, total.tolist(), strict=True) if not n and self.of(stage, task)]

    def _has_seen(self, stage: Stage, task: str) -> bool:
        # Without copies of their states, and of all: metrics with equal states are updated by one.
        return any(metric.update_called for metric in self.of(stage, task).values(copy_state=False))

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
