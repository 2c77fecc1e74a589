"""A multi-task network in Lightning: predictions, losses and evaluation, without training."""

from collections.abc import Mapping
from typing import Any, Literal

import pytorch_lightning as pl
from torch import Tensor, nn

from recon.errors import unknown_name
from recon.gradients.wrappers import unwrapped
from recon.models import heads_for
from recon.tasks.names import check_task_names
from recon.tasks.task import Task
from recon.training.batch import Batch, inputs_and_targets, inputs_of, takes_keywords
from recon.training.branch_options import BranchOptions, network_for
from recon.training.evaluation import EvaluationMetrics
from recon.training.naming import naming
from recon.training.refusals import refuse_several_loaders


class MultiTaskNetwork(pl.LightningModule):
    """A shared backbone with one head per task, which can be evaluated.

    Args:
        backbone: The shared network; maps inputs to features.
        tasks: What is learned: losses and metrics.
        only: Names of the tasks to keep; ``None`` for all.
        heads: Task -> head, from the backbone's features to predictions; by default those that go
            with the backbone.
        branch: Layers of the backbone that get one copy per task; ``None`` for no more than its
            own.

    Raises:
        ValueError: Unknown task or layer; a task without a head.
        TypeError: The backbone is no module that runs, such as a list of modules.
    """

    def __init__(
        self,
        backbone: nn.Module,
        tasks: list[Task],
        only: list[str] | None,
        heads: nn.ModuleDict | None,
        branch: BranchOptions | None,
    ) -> None:
        _check_runs(backbone)
        super().__init__()
        self.tasks = _select(tasks, only)
        self.heads = heads if heads is not None else heads_for(backbone, self.tasks)
        if missing := [name for name in self.task_names if name not in self.heads]:
            raise ValueError(f"heads has no {missing}; it has {list(self.heads)}")
        self.backbone = network_for(backbone, self.task_names, branch)
        self.metrics = EvaluationMetrics(self.tasks)

    @property
    def task_names(self) -> list[str]:
        """The names of the tasks, in their order."""
        return [task.name for task in self.tasks]

    def forward(self, inputs: Any) -> dict[str, Tensor]:
        """Predictions of every task: ``{task: head(features)}``; features may differ by task."""
        return self._predictions(self._features(inputs))

    def _features(self, inputs: Any) -> Any:
        if isinstance(inputs, Mapping) and takes_keywords(self.backbone, inputs):
            return self.backbone(**inputs)
        return self.backbone(inputs)

    def _predictions(self, features: Any) -> dict[str, Tensor]:
        names = self.task_names
        per_task = isinstance(features, dict) and all(name in features for name in names)
        return {name: self.heads[name](features[name] if per_task else features) for name in names}

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """``{task: scalar loss}`` of a batch."""
        inputs, targets = self._parts(batch)
        return self._losses(self(inputs), targets)

    def losses_and_features(self, batch: Batch) -> tuple[dict[str, Tensor], Tensor]:
        """``{task: scalar loss}`` of a batch, and the features that the heads have taken."""
        inputs, targets = self._parts(batch)
        features = self._features(inputs)
        return self._losses(self._predictions(features), targets), features

    def _losses(self, predictions: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> dict[str, Tensor]:
        losses = {}
        for task in self.tasks:
            prediction, target = predictions[task.name], targets[task.name]
            with naming(f"the loss of task {task.name!r}", prediction, target):
                losses[task.name] = task.loss(prediction, target)
        return losses

    def _parts(self, batch: Batch) -> Batch:
        inputs, targets = inputs_and_targets(batch)
        missing = [name for name in self.task_names if name not in targets]
        if missing:
            raise ValueError(f"the batch has no targets for tasks {missing}; it has {list(targets)}")
        return inputs, targets

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        refuse_several_loaders("val", self.trainer.num_val_batches)
        self._evaluate("val", batch)

    def test_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        refuse_several_loaders("test", self.trainer.num_test_batches)
        self._evaluate("test", batch)

    def _evaluate(self, stage: Literal["val", "test"], batch: Batch) -> None:
        inputs, targets = self._parts(batch)
        predictions = self(inputs)
        for task in self.tasks:
            metrics = self.metrics.of(stage, task.name)
            prediction, target = predictions[task.name], targets[task.name]
            with naming(f"a metric of task {task.name!r}", prediction, target):
                metrics.update(prediction, target)
            # Lightning computes the metric once, over the whole set, at the end of the epoch.
            self.log_dict(metrics, prog_bar=stage == "val", on_epoch=True, on_step=False)

    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> dict[str, Tensor]:
        """``{task: estimate}`` of a batch of inputs, with targets or without.

        Estimates have the form of the target (labels, depths, unit vectors) where the task has an
        ``estimate``. Otherwise they are the output of the head.
        """
        predictions = self(inputs_of(batch))
        return {task.name: task.estimated(predictions[task.name]) for task in self.tasks}


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
