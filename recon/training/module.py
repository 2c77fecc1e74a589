"""Multi-task training in Lightning."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, cast

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import BaseFinetuning
from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities.types import LRSchedulerConfigType, OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from recon.conflict import ConflictAnalyzer
from recon.engine.engine import Engine, UpdateScale
from recon.engine.routes.head_backwards import At, check_at
from recon.engine.step_info import StepInfo
from recon.errors import unknown_name
from recon.methods import Method, create_method
from recon.models import heads_for
from recon.tasks.names import check_task_names
from recon.tasks.task import Task
from recon.training.batch import Batch, inputs_and_targets, inputs_of, takes_keywords
from recon.training.branch_options import Branching, branched
from recon.training.epochs import begin_data_again, seed_data, seed_training
from recon.training.evaluation import EvaluationMetrics
from recon.training.held_modules import task_modules
from recon.training.naming import naming
from recon.training.refusals import check_same_network, refuse_several_loaders, refuse_unsupported
from recon.training.resuming import RUN, check_same_run, run_record
from recon.training.schedules import Interval, Monitor, check_interval, check_monitored, step_schedules


def _sgd(parameters: Iterable[nn.Parameter]) -> Optimizer:
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9)


class MultiTaskModule(pl.LightningModule):
    """A shared backbone, a head per task, and a multi-task optimizer, trained by manual optimisation.

    Batches are ``(inputs, {task: target})``. Inputs that are a mapping are spread into the backbone's keyword
    arguments if it takes arguments of these names, and given as they are otherwise.

    Args:
        backbone: The shared network; maps inputs to features. It needs ``num_features`` or ``task_head`` (see
            :func:`recon.models.heads_for`) unless ``heads`` are given. Layers that it calls ``task_specific_layers()``
            get one copy per task in any case.
        tasks: What is learned: losses and metrics. Modules that losses and estimates hold (class weights, centres) are
            part of this module: they are moved and saved, and what they learn is trained by their own task's gradient.
        only: Names of the tasks to train, when not all; one name trains a single-task network.
        method: Name of a multi-task optimizer, or the method itself.
        method_options: Hyperparameters of a method given by name; its ``seed`` is the run's unless given here.
        heads: Task -> head, from the backbone's features to predictions; by default those that go with the backbone.
        branch: Layers of the backbone that get one copy per task; ``None`` for no more than its own.
        optimizer: Parameters -> torch optimizer; SGD with lr 0.1 and momentum 0.9 by default.
        scheduler: Optimizer -> learning-rate scheduler; ``None`` for a constant rate.
        scheduler_interval: Whether the scheduler steps at the end of each ``"epoch"`` or after each ``"step"`` of the
            optimizer, as ``OneCycleLR`` and warm-ups want it.
        monitor: Name of the metric that ``ReduceLROnPlateau`` looks at, as it is logged (``"val/digit/accuracy"``,
            ``"loss/digit"``). It should be of validation data of your own: the built-in data sets give their test split
            as validation. Epochs without validation do not count.
        update_scale: ``"sum"`` multiplies mean-scaled methods by K, so that all methods match the summed loss at one
            learning rate, as the paper's code does; see :class:`recon.Engine`.
        gradient_clip_val: Clips the norm of the whole gradient after the method; ``None`` for no clipping.
        at: ``"representation"`` lets a Gramian method weight the gradients in the backbone's features instead of its
            parameters, with K backwards through the heads and one through the backbone; see :class:`recon.Engine`.

    Raises:
        ValueError: Unknown method, task, layer or hyperparameter; a task without a head; a norm that is not positive.
    """

    def __init__(
        self,
        backbone: nn.Module,
        tasks: list[Task],
        only: list[str] | None = None,
        method: str | Method = "joint",
        method_options: dict[str, Any] | None = None,
        heads: nn.ModuleDict | None = None,
        branch: Branching | None = None,
        optimizer: Callable[[Iterable[Any]], Optimizer] = _sgd,
        scheduler: Callable[[Optimizer], LRScheduler] | None = None,
        scheduler_interval: Interval = "epoch",
        monitor: str | None = None,
        update_scale: UpdateScale = "sum",
        gradient_clip_val: float | None = None,
        at: At = "parameters",
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        if gradient_clip_val is not None and not gradient_clip_val > 0:
            raise ValueError(f"gradient_clip_val={gradient_clip_val} must be a positive norm, or None for no clipping")
        self.tasks = _select(tasks, only)
        names = [task.name for task in self.tasks]
        self.heads = heads if heads is not None else heads_for(backbone, self.tasks)
        if missing := [name for name in names if name not in self.heads]:
            raise ValueError(f"heads has no {missing}; it has {list(self.heads)}")
        self.backbone = branched(backbone, names, branch)
        options = method_options or {}
        self.method = method if isinstance(method, Method) else create_method(method, **options)
        if len(names) > 1:  # one is trained plainly
            self.method.bind(len(names))  # before the optimizer and a checkpoint ask for what it learns and remembers
        check_interval(scheduler_interval)
        check_at(at, self.backbone, self.method, len(names))
        self.at: At = at
        self._seeds_method = not isinstance(method, Method) and "seed" not in options
        self.optimizer_factory = optimizer
        self.scheduler_factory = scheduler
        self.scheduler_interval: Interval = scheduler_interval
        self.monitor = Monitor(monitor)
        self.update_scale: UpdateScale = update_scale
        self.gradient_clip_val = gradient_clip_val
        self.analyzer: ConflictAnalyzer | None = None
        """Observes training when set; :class:`recon.training.ConflictCallback` sets it."""
        self.run_seed: int | None = None
        self.lr: float | None = None
        """Learning rate in place of the optimizer's own, for all parameters; Lightning's finder sets it."""
        self.task_modules = task_modules(self.tasks, known=self)
        """What losses and estimates hold of modules: trained, saved and moved with the network."""
        self.metrics = EvaluationMetrics(self.tasks)

    def forward(self, inputs: Any) -> dict[str, Tensor]:
        """Predictions of every task: ``{task: head(features)}``; the backbone's features may differ by task."""
        return self._predictions(self._features(inputs))

    def _features(self, inputs: Any) -> Any:
        if isinstance(inputs, Mapping) and takes_keywords(self.backbone, inputs):
            return self.backbone(**inputs)
        return self.backbone(inputs)

    def _predictions(self, features: Any) -> dict[str, Tensor]:
        names = [task.name for task in self.tasks]
        per_task = isinstance(features, dict) and all(name in features for name in names)
        return {name: self.heads[name](features[name] if per_task else features) for name in names}

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """``{task: scalar loss}`` of a batch."""
        inputs, targets = self._parts(batch)
        return self._losses(self(inputs), targets)

    def losses_and_features(self, batch: Batch) -> tuple[dict[str, Tensor], Tensor]:
        """``{task: scalar loss}`` of a batch, and the backbone's features, which the heads have taken."""
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
        missing = [task.name for task in self.tasks if task.name not in targets]
        if missing:
            raise ValueError(f"the batch has no targets for tasks {missing}; it has {list(targets)}")
        return inputs, targets

    # Training ---------------------------------------------------------------------------------------------------------

    def configure_callbacks(self) -> list[pl.Callback]:
        """No callbacks; the first hook that sees the trainer, so that what cannot work is refused before any work."""
        trainer = self._trainer
        if trainer is not None and trainer.training:
            refuse_unsupported(trainer)
        return []

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimizer over all parameters, those of the method and of losses included, and the scheduler if any."""
        optimizer = self.optimizer_factory(self._optimized_parameters())
        if self.lr is not None:
            for group in optimizer.param_groups:
                group["lr"] = self.lr
        if self.scheduler_factory is None:
            return optimizer
        scheduler = self.scheduler_factory(optimizer)
        check_monitored(scheduler, self.monitor.name)
        config: LRSchedulerConfigType = {"scheduler": scheduler, "interval": self.scheduler_interval}
        return {"optimizer": optimizer, "lr_scheduler": config}

    def _optimized_parameters(self) -> list[nn.Parameter]:
        """All parameters, or those that train from the start: ``BackboneFinetuning`` adds the others when they thaw."""
        trainer: Any = self._trainer  # there is none when a benchmark checks its plan
        callbacks = [] if trainer is None else trainer.callbacks
        finetuning = any(isinstance(callback, BaseFinetuning) for callback in callbacks)
        return [parameter for parameter in self.parameters() if parameter.requires_grad or not finetuning]

    def setup(self, stage: str) -> None:
        if stage == "fit" and self.run_seed is None:
            self.run_seed = torch.initial_seed() % 2**32
            if self._seeds_method:
                self.method.reseed(self.run_seed)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["run_seed"] = self.run_seed
        checkpoint[RUN] = run_record(self)
        checkpoint["monitored"] = self.monitor.news(self.trainer.callback_metrics) if self._fitting() else None

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self._trainer is not None and self._trainer.training:
            check_same_run(checkpoint, self)
        check_same_network(list(checkpoint["state_dict"]), list(self.state_dict()))
        self.run_seed = checkpoint["run_seed"]
        self.monitor.keep(checkpoint.get("monitored"))

    def on_train_start(self) -> None:
        self.monitor.check(self.trainer)
        self.engine = Engine(
            self.backbone, [task.name for task in self.tasks], self.method, self.analyzer, self.update_scale, self.at
        )
        self.engine.step_count = self.trainer.global_step
        self._resumes = self.current_epoch > 0

    def on_train_epoch_start(self) -> None:
        assert self.run_seed is not None
        seed_data(self.run_seed, self.current_epoch)
        if self._resumes:
            begin_data_again(self.trainer)
        self._resumes = False

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        # Dropout and the like become a function of (seed, epoch), so that a resumed run repeats an uninterrupted one.
        # Not at the start of the epoch: Lightning makes its data iterator, which draws a number, before or after that.
        if batch_idx == 0:
            assert self.run_seed is not None
            seed_training(self.run_seed, self.current_epoch)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """One step of the method and the optimizer.

        Returns:
            The sum of the task losses, detached: what Lightning's learning-rate finder looks at.
        """
        if self._gathers_statistics():
            with torch.no_grad():
                return torch.stack(list(self.losses(batch).values())).sum()
        evaluate = self.losses if self.at == "parameters" else self.losses_and_features

        def closure(other: Batch | None = None) -> Any:
            return evaluate(batch if other is None else other)

        # Lightning's wrapper is no Optimizer, and has to be the one that steps: it counts, clips and logs.
        info = self.engine.step(closure, cast(Optimizer, self.optimizers()))
        self._log_step(info)
        if not self.monitor.of_validation:
            self.monitor.renew()
        step_schedules(self.trainer, "step", self.monitor)
        return torch.stack(list(info.losses.values())).sum()

    def _gathers_statistics(self) -> bool:
        """Whether this is an epoch in which ``StochasticWeightAveraging`` gathers the statistics of averaged weights.

        The callback asks for no backward, and for no optimizer step by a wish for more batches than there are to be
        accumulated; under manual optimisation it is for the module to heed that.
        """
        return self.trainer.fit_loop._skip_backward

    def _log_step(self, info: StepInfo) -> None:
        self.log_dict({f"loss/{task}": loss for task, loss in info.losses.items()}, prog_bar=True)
        if info.conflict_rate is not None:
            self.log("conflict", info.conflict_rate, prog_bar=True)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        if self.gradient_clip_val is not None:
            self.clip_gradients(optimizer, gradient_clip_val=self.gradient_clip_val, gradient_clip_algorithm="norm")

    def on_train_epoch_end(self) -> None:
        self.engine.check_finite()  # before this epoch's checkpoint is written
        self.method.end_epoch()
        step_schedules(self.trainer, "epoch", self.monitor)
        self.monitor.end_epoch()

    def _fitting(self) -> bool:
        return self.trainer.state.fn == TrainerFn.FITTING and not self.trainer.sanity_checking

    # Evaluation -------------------------------------------------------------------------------------------------------

    def on_validation_epoch_end(self) -> None:
        if self._fitting() and self.monitor.of_validation:
            self.monitor.renew()

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
        """``{task: estimate}`` of a batch of inputs, which may come with targets or without.

        Estimates have the form of the target (labels, depths, unit vectors) where the task knows how to bring a
        prediction into it (``Task.estimate``), and are what the head gives otherwise.
        """
        predictions = self(inputs_of(batch))
        return {task.name: task.estimated(predictions[task.name]) for task in self.tasks}


def _select(tasks: list[Task], only: list[str] | None) -> list[Task]:
    check_task_names([task.name for task in tasks])
    by_name = {task.name: task for task in tasks}
    if only is None:
        return tasks
    for name in only:
        if name not in by_name:
            raise unknown_name("task", name, by_name)
    return [by_name[name] for name in only]
