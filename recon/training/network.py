"""A multi-task network in Lightning: predictions, losses and evaluation, without training."""

import math
import warnings
from collections.abc import Mapping, Sequence, Sized
from typing import Any

from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor, nn

from recon.engine.evaluation import Evaluation
from recon.models.contract import has_regulariser
from recon.tasks.task import Task
from recon.training.batch import inputs_of, per_task
from recon.training.branch_options import BranchOptions
from recon.training.evaluation import EvaluationMetrics, Stage
from recon.training.labelled_batch import LabelledBatch, labelled_batch
from recon.training.naming import naming
from recon.training.paths import TaskPaths
from recon.training.refusals import refuse_several_loaders
from recon.training.regularisers import regularised


class MultiTaskNetwork(TaskPaths):
    """A shared backbone with one head per task, which can be evaluated.

    It takes the arguments of :class:`~recon.training.paths.TaskPaths`.
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
        super().__init__(backbone, tasks, only, heads, branch, input_shape)
        self.metrics = EvaluationMetrics(self.tasks)
        self._regularised = any(has_regulariser(module) for module in self.backbone.modules())

    def losses(self, batch: Any) -> dict[str, Tensor]:
        """``{task: scalar loss}`` of the tasks that a batch has labels of."""
        return dict(self.evaluate(batch))

    def evaluate(self, batch: Any) -> Evaluation:
        """The losses of the tasks that a batch has labels of, and of how many each is the mean.

        Heads of other tasks do not run.

        Args:
            batch: ``(inputs, {task: target})``, where targets may be missing, ``None``, or partly
                without truth; or ``{task: (inputs, target)}``, where each input passes through its
                task's path alone. Or such a batch from :meth:`labelled`.

        Returns:
            ``{task: scalar loss}`` with ``counts``, the number of labelled items by task.

        Raises:
            ValueError: The batch has another form, or an unknown task; or a loss cannot be computed
                from its target.
        """
        labelled = self.labelled(batch)
        losses = self._losses(labelled, self._labelled_predictions(labelled))
        return Evaluation(losses, counts=labelled.counts)

    def evaluate_with_features(self, batch: Any) -> Evaluation:
        """As :meth:`evaluate`, with the ``features`` that all heads have taken.

        Raises:
            ValueError: The tasks have inputs of their own, and no features in common.
        """
        labelled = self.labelled(batch)
        if labelled.per_task:
            raise ValueError(
                "at='representation' needs the features that all heads take, and with data of each task's own there "
                "are none; use at='parameters'"
            )
        if not labelled.counts:
            return Evaluation({}, counts={})
        features = self._features(labelled.inputs)
        losses = self._losses(labelled, self._predictions(features, labelled.counts))
        return Evaluation(losses, features, labelled.counts)

    def labelled(self, batch: Any) -> LabelledBatch:
        """A batch with the tasks that it has labels of; one that says so already stays as it is.

        Args:
            batch: As for :meth:`evaluate`.
        """
        return batch if isinstance(batch, LabelledBatch) else labelled_batch(batch, self.tasks, self.known_tasks)

    def _labelled_predictions(self, labelled: LabelledBatch) -> dict[str, Tensor]:
        if labelled.per_task:
            return {task: self.run(task, labelled.inputs[task]) for task in labelled.counts}
        if not labelled.counts and not self._norms_over_processes():  # as of an empty share
            return {}
        return self._predictions(self._features(labelled.inputs), labelled.counts)

    def _norms_over_processes(self) -> bool:
        """Whether other processes wait for the forward of this one."""
        return self.training and any(isinstance(module, nn.SyncBatchNorm) for module in self.backbone.modules())

    def _losses(self, labelled: LabelledBatch, predictions: Mapping[str, Tensor]) -> dict[str, Tensor]:
        losses = {}
        for task in self._present(labelled):
            prediction, target = labelled.select(task.name, predictions[task.name])
            with naming(f"the loss of task {task.name!r}", prediction, target):
                losses[task.name] = task.loss(prediction, target)
        return regularised(losses, self.backbone, single=len(self.tasks) == 1) if self._regularised else losses

    def _present(self, labelled: LabelledBatch) -> list[Task]:
        return [task for task in self.tasks if task.name in labelled.counts]

    def on_validation_start(self) -> None:
        self._expect_unseen()

    def on_test_start(self) -> None:
        self._expect_unseen()

    def _expect_unseen(self) -> None:
        """Silence torchmetrics where a process gathers metrics of tasks that it has not seen."""
        if self.trainer.world_size > 1:
            warnings.filterwarnings("ignore", message="The ``compute`` method of metric .* was called before")

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self._update("val", batch, self.trainer.num_val_batches)

    def test_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self._update("test", batch, self.trainer.num_test_batches)

    def _update(self, stage: Stage, batch: Any, batches_by_loader: Sized) -> None:
        labelled = self.labelled(batch)
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
