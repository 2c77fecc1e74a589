"""The ways of inputs through a multi-task network: the backbone, branches, and a head per task."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
from torch import Tensor, nn

from recon.branching import BranchedModule
from recon.errors import unknown_name
from recon.gradients.wrappers import unwrapped
from recon.models import heads_for
from recon.models.architectures.bmtas.network import BMTASNetwork
from recon.models.contract import for_tasks
from recon.tasks.names import check_task_names
from recon.tasks.task import Task
from recon.training.batch import takes_keywords
from recon.training.branch_options import BranchOptions, network_for


class TaskPaths(pl.LightningModule):
    """A shared backbone with one head per task.

    Args:
        backbone: The shared network; maps inputs to features.
        tasks: What is learned: losses and metrics.
        only: Names of the tasks to keep; ``None`` for all.
        heads: Task -> head, from the backbone's features to predictions; by default those that go
            with the backbone.
        branch: Layers of the backbone that get one copy per task; ``None`` for no more than its
            own.
        input_shape: Shape of the inputs of one sample, for branches within a budget of FLOPs.

    Raises:
        ValueError: Unknown task or layer; a task without a head.
        TypeError: The backbone is no module that runs, such as a list of modules.

    Attributes:
        known_tasks: The names of all tasks, those that ``only`` leaves out included.
        branch: The layers that were branched, by name where a map has chosen them; ``None`` for no
            more than the backbone's own.
    """

    def __init__(
        self,
        backbone: nn.Module,
        tasks: list[Task],
        only: list[str] | None,
        heads: nn.ModuleDict | None,
        branch: BranchOptions | None,
        input_shape: Sequence[int] | None = None,
    ) -> None:
        _check_runs(backbone)
        super().__init__()
        self.tasks = _select(tasks, only)
        self.known_tasks = [task.name for task in tasks]
        self.heads = heads if heads is not None else heads_for(backbone, self.tasks)
        if missing := [name for name in self.task_names if name not in self.heads]:
            raise ValueError(f"heads has no {missing}; it has {list(self.heads)}")
        network = for_tasks(backbone, self.task_names)
        self.branch = None if branch is None else branch.by_name(network, self.task_names, input_shape)
        self.backbone = network_for(network, self.task_names, self.branch)

    @property
    def task_names(self) -> list[str]:
        """The names of the tasks, in their order."""
        return [task.name for task in self.tasks]

    def forward(self, inputs: Any) -> dict[str, Tensor]:
        """Predictions of every task: ``{task: head(features)}``; features may differ by task."""
        return self._predictions(self._features(inputs), self.task_names)

    def run(self, task: str, inputs: Any) -> Tensor:
        """The prediction of one task alone, for tasks that have data of their own.

        Of a branched backbone, or one of copies, only this task's path runs.

        Args:
            task: The task.
            inputs: As for all tasks: a tensor, or a mapping of keyword arguments.

        Raises:
            ValueError: There is no such task.
        """
        if task not in self.task_names:
            raise unknown_name("task", task, self.task_names)
        network = unwrapped(self.backbone)
        if isinstance(network, BranchedModule | BMTASNetwork):
            spread = isinstance(inputs, Mapping) and takes_keywords(network, inputs)
            features = network.run(task, **inputs) if spread else network.run(task, inputs)
            return self.heads[task](self._own(features, task))
        return self._predictions(self._features(inputs), [task])[task]

    def _features(self, inputs: Any) -> Any:
        if isinstance(inputs, Mapping) and takes_keywords(self.backbone, inputs):
            return self.backbone(**inputs)
        return self.backbone(inputs)

    def _predictions(self, features: Any, tasks: Iterable[str]) -> dict[str, Tensor]:
        return {name: self.heads[name](self._own(features, name)) for name in tasks}

    def _own(self, features: Any, task: str) -> Any:
        """The features of one task among those of all.

        A network of some architectures gives features by task itself. Branched, it gives them for
        each task's branches.
        """
        while isinstance(features, dict) and all(name in features for name in self.task_names):
            features = features[task]
        return features


def _check_runs(backbone: Any) -> None:
    network = unwrapped(backbone) if isinstance(backbone, nn.Module) else backbone
    if not isinstance(network, nn.Module) or isinstance(network, nn.ModuleList | nn.ModuleDict):
        raise TypeError(
            f"the backbone is of type {type(network).__name__}, which has no forward; put several backbones into one "
            "module whose forward runs them, as attributes: class Shared(nn.Module) with self.encoder and self.neck"
        )


def _select(tasks: list[Task], only: list[str] | None) -> list[Task]:
    check_task_names([task.name for task in tasks])
    by_name = {task.name: task for task in tasks}
    if only is None:
        return tasks
    for name in only:
        if name not in by_name:
            raise unknown_name("task", name, by_name)
    return [by_name[name] for name in only]
