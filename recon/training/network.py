"""A multi-task network in Lightning: predictions, losses and evaluation, without training."""

import math
from collections.abc import Iterable, Mapping, Sized
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor, nn

from recon.branching import BranchedModule
from recon.engine.evaluation import Evaluation
from recon.errors import unknown_name
from recon.gradients.wrappers import unwrapped
from recon.models import heads_for
from recon.tasks.names import check_task_names
from recon.tasks.task import Task
from recon.training.batch import inputs_of, per_task, takes_keywords
from recon.training.branch_options import BranchOptions, network_for
from recon.training.evaluation import EvaluationMetrics, Stage
from recon.training.labelled_batch import LabelledBatch, labelled_batch
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

    Attributes:
        known_tasks: The names of all tasks, those that ``only`` leaves out included.
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
        self.known_tasks = [task.name for task in tasks]
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
        return self._predictions(self._features(inputs), self.task_names)

    def run(self, task: str, inputs: Any) -> Tensor:
        """The prediction of one task alone, for tasks that have data of their own.

        Of a branched backbone only this task's path runs.

        Args:
            task: The task.
            inputs: As for all tasks: a tensor, or a mapping of keyword arguments.

        Raises:
            ValueError: There is no such task.
        """
        if task not in self.task_names:
            raise unknown_name("task", task, self.task_names)
        network = unwrapped(self.backbone)
        if isinstance(network, BranchedModule):
            spread = isinstance(inputs, Mapping) and takes_keywords(network, inputs)
            return self.heads[task](network.run(task, **inputs) if spread else network.run(task, inputs))
        return self._predictions(self._features(inputs), [task])[task]

    def _features(self, inputs: Any) -> Any:
        if isinstance(inputs, Mapping) and takes_keywords(self.backbone, inputs):
            return self.backbone(**inputs)
        return self.backbone(inputs)

    def _predictions(self, features: Any, tasks: Iterable[str]) -> dict[str, Tensor]:
        by_task = isinstance(features, dict) and all(name in features for name in self.task_names)
        return {name: self.heads[name](features[name] if by_task else features) for name in tasks}

    def losses(self, batch: Any) -> dict[str, Tensor]:
        """``{task: scalar loss}`` of the tasks that a batch has labels of."""
        return dict(self.evaluate(batch))

    def evaluate(self, batch: Any) -> Evaluation:
        """The losses of the tasks that a batch has labels of, and of how many each is the mean.

        Heads of other tasks do not run.

        Args:
            batch: ``(inputs, {task: target})``, where targets may be missing, ``None``, or partly
                without truth; or ``{task: (inputs, target)}``, where each input passes through its
                task's path alone.

        Returns:
            ``{task: scalar loss}`` with ``counts``, the number of labelled items by task.

        Raises:
            ValueError: The batch has another form, or an unknown task; or a loss cannot be computed
                from its target.
        """
        labelled = self._labelled(batch)
        return self._evaluation(labelled, self._labelled_predictions(labelled), None)

    def evaluate_with_features(self, batch: Any) -> Evaluation:
        """As :meth:`evaluate`, with the ``features`` that all heads have taken.

        Raises:
            ValueError: The tasks have inputs of their own, and no features in common.
        """
        labelled = self._labelled(batch)
        if labelled.per_task:
            raise ValueError(
                "at='representation' needs the features that all heads take, and with data of each task's own there "
                "are none; use at='parameters'"
            )
        features = self._features(labelled.inputs)
        return self._evaluation(labelled, self._predictions(features, labelled.counts), features)

    def _labelled(self, batch: Any) -> LabelledBatch:
        return labelled_batch(batch, self.tasks, self.known_tasks)

    def _labelled_predictions(self, labelled: LabelledBatch) -> dict[str, Tensor]:
        if labelled.per_task:
            return {task: self.run(task, labelled.inputs[task]) for task in labelled.counts}
        return self._predictions(self._features(labelled.inputs), labelled.counts)

    def _evaluation(
        self, labelled: LabelledBatch, predictions: Mapping[str, Tensor], features: Tensor | None
    ) -> Evaluation:
        losses = {}
        for task in self._present(labelled):
            prediction, target = labelled.select(task.name, predictions[task.name])
            with naming(f"the loss of task {task.name!r}", prediction, target):
                losses[task.name] = task.loss(prediction, target)
        return Evaluation(losses, features, labelled.counts)

    def _present(self, labelled: LabelledBatch) -> list[Task]:
        return [task for task in self.tasks if task.name in labelled.counts]

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self._update("val", batch, self.trainer.num_val_batches)

    def test_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self._update("test", batch, self.trainer.num_test_batches)

    def _update(self, stage: Stage, batch: Any, batches_by_loader: Sized) -> None:
        labelled = self._labelled(batch)
        if not labelled.per_task:
            refuse_several_loaders(stage, batches_by_loader)
        predictions = self._labelled_predictions(labelled)
        for task in self._present(labelled):
            prediction, target = labelled.select(task.name, predictions[task.name])
            with naming(f"a metric of task {task.name!r}", prediction, target):
                self.metrics.of(stage, task.name).update(prediction, target)
        # Lightning computes a metric once, over the whole set, at the end of the epoch. Among
        # several processes all take part, whether they have seen the task or not.
        for name in self.task_names if self.trainer.world_size > 1 else self.metrics.seen(stage):
            self.log_dict(self.metrics.of(stage, name), prog_bar=stage == "val", on_epoch=True, on_step=False)

    def on_validation_epoch_end(self) -> None:
        self._log_unseen("val")

    def on_test_epoch_end(self) -> None:
        self._log_unseen("test")

    def _log_unseen(self, stage: Stage) -> None:
        """Give tasks without any label in the set NaN as their metrics, and say so."""
        unseen = self.metrics.unseen_anywhere(stage, self.trainer.strategy)
        for task in unseen:
            values = dict.fromkeys(self.metrics.names(stage, task), math.nan)
            self.log_dict(values, prog_bar=stage == "val", sync_dist=self.trainer.world_size > 1)
        if unseen and not self.trainer.sanity_checking:
            rank_zero_warn(
                f"the {stage} data have no labels of {', '.join(f'task {task!r}' for task in unseen)}: "
                "metrics of it are NaN"
            )

    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> dict[str, Tensor]:
        """``{task: estimate}`` of a batch of inputs, with targets or without.

        Of a batch ``{task: (inputs, target)}`` each task has estimates of its own inputs.

        Estimates have the form of the target (labels, depths, unit vectors) where the task has an
        ``estimate``. Otherwise they are the output of the head.
        """
        own = per_task(batch, self.known_tasks)
        if own is None:
            predictions = self(inputs_of(batch))
        else:
            predictions = {task: self.run(task, own[task][0]) for task in self.task_names if task in own}
        return {task.name: task.estimated(predictions[task.name]) for task in self.tasks if task.name in predictions}


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
