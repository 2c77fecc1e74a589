"""Training of a multi-task network in Lightning."""

from collections.abc import Callable, Iterable
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from recon.engine.accumulation import check_accumulates
from recon.engine.checks import At
from recon.engine.groups import Granularity, prepare_method
from recon.engine.memory import Memory, check_memory, check_whole_batch
from recon.engine.setting import UpdateScale
from recon.methods import Method, create_method
from recon.tasks.task import Task
from recon.training.branch_options import BranchOptions
from recon.training.epochs import begin_data_again, begin_epoch_of, data_rank, seed_data, seed_training
from recon.training.held_modules import task_modules
from recon.training.hyperparameters import hyperparameters
from recon.training.lightning_callbacks import optimized_parameters
from recon.training.older_checkpoints import split_learned_numbers
from recon.training.own_rates import set_own_rates
from recon.training.refusals import (
    callbacks_for,
    check_norm,
    check_one_norm,
    check_one_representation,
    check_same_network,
)
from recon.training.resuming import RUN, check_same_run, run_record
from recon.training.rotation_options import RotationOptions, heads_behind
from recon.training.schedules import Interval, Monitor, check_interval, scheduled, step_schedules
from recon.training.stepping import SteppedNetwork
from recon.training.validation_batches import refuse_missing_validation


def _sgd(parameters: Iterable[nn.Parameter]) -> Optimizer:
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9)


class MultiTaskModule(SteppedNetwork):
    """A shared backbone, a head per task and a multi-task optimizer, for Lightning's trainer.

    The trainer is that of ``pytorch_lightning``. That of ``lightning.pytorch``, the same in another
    package, refuses the module as no ``LightningModule``: write ``import pytorch_lightning as L``.

    Each step computes one gradient per task, and the method combines them. Batches are
    ``(inputs, {task: target})``, where targets may be missing, or ``{task: (inputs, target)}``.
    Inputs that are a mapping become keyword arguments of the backbone if it takes arguments of
    these names; otherwise the backbone gets the mapping.

    >>> from recon.models import LeNet
    >>> from recon.tasks import classification
    >>> tasks = [classification("digit", 10), classification("letter", 10)]
    >>> module = MultiTaskModule(LeNet(), tasks, method="cagrad", method_options={"c": 0.2})
    >>> predictions = module(torch.zeros(4, 1, 36, 36))
    >>> {task: tuple(prediction.shape) for task, prediction in predictions.items()}
    {'digit': (4, 10), 'letter': (4, 10)}

    Args:
        backbone: The shared network; maps inputs to features. It needs ``num_features`` or
            ``task_head`` (see :mod:`recon.models.contract`) unless ``heads`` are given. Layers that
            its ``task_specific_layers()`` names get one copy per task in any case.
        tasks: The tasks, with their losses and metrics. Modules inside losses and estimates (class
            weights, centres) become part of this module: they are moved and saved with it, and the
            gradient of their own task trains them.
        only: Names of the tasks to train; ``None`` for all. One name trains a single-task network.
        method: Name of a multi-task optimizer, or the method itself.
        method_options: Hyperparameters of a method given by name. Its ``seed`` is the run's unless
            given here.
        heads: Task -> head, from the backbone's features to predictions; by default the heads that
            go with the backbone.
        branch: Layers of the backbone that get one copy per task; ``None`` for its own
            task-specific layers only.
        optimizer: Parameters -> torch optimizer; SGD with lr 0.1 and momentum 0.9 by default.
        scheduler: Optimizer -> learning-rate scheduler; ``None`` for a constant rate.
        scheduler_interval: Whether the scheduler steps at the end of each ``"epoch"`` or after each
            ``"step"`` of the optimizer, as ``OneCycleLR`` and warm-ups need it.
        monitor: Name of the metric that steers ``ReduceLROnPlateau``, as it is logged
            (``"val/digit/accuracy"``, ``"loss/digit"``). Take a metric of validation data of your
            own: the built-in data sets give their test split as validation. Epochs or steps without
            a new value do not count, as those without labels of the task.
        update_scale: ``"sum"`` multiplies mean-scaled methods by K, so that all methods match the
            summed loss at one learning rate, as the paper's code does; see :class:`recon.Engine`.
        gradient_clip_val: Largest norm of the whole gradient, clipped after the method; ``None``
            leaves clipping to the trainer's settings.
        at: ``"representation"`` lets a Gramian method weight the gradients in the backbone's
            features instead of its parameters, with K backwards through the heads and one through
            the backbone; see :class:`recon.Engine`.
        granularity: Groups of layers that a Gramian method weighs by themselves; see there.
        memory: ``"gramian"`` trains in the memory of about one task gradient, in more time; see
            there.
        rotations: Learned rotations of the features for each task, as RotoGrad has them, beside any
            method; ``None`` for none, or for those of the method ``rotograd``.
        input_shape: Shape of the inputs of one sample, for branches within a budget of FLOPs.

    Raises:
        ValueError: Unknown method, task, layer or hyperparameter; a task without a head; a norm
            that is not positive.
        TypeError: The backbone is no module that runs, such as a list of modules.

    Attributes:
        analyzer: Observes the conflicts of training when set;
            :class:`recon.training.ConflictCallback` sets it.
        run_seed: Seed of the run. It is set when training begins, and kept in checkpoints.
        lr: Learning rate of all parameters, in place of the optimizer's own; Lightning's finder
            sets it.
        task_modules: The modules inside losses and estimates: trained, saved and moved with the
            network.
    """

    run_seed: int | None = None
    lr: float | None = None

    def __init__(
        self,
        backbone: nn.Module,
        tasks: list[Task],
        only: list[str] | None = None,
        method: str | Method = "joint",
        method_options: dict[str, Any] | None = None,
        heads: nn.ModuleDict | None = None,
        branch: BranchOptions | None = None,
        optimizer: Callable[[Iterable[Any]], Optimizer] = _sgd,
        scheduler: Callable[[Optimizer], LRScheduler] | None = None,
        scheduler_interval: Interval = "epoch",
        monitor: str | None = None,
        update_scale: UpdateScale = "sum",
        gradient_clip_val: float | None = None,
        at: At = "parameters",
        granularity: Granularity = "network",
        memory: Memory = "jacobian",
        rotations: RotationOptions | None = None,
        input_shape: tuple[int, ...] | None = None,
    ) -> None:
        check_norm(gradient_clip_val)
        check_interval(scheduler_interval)
        check_one_representation(backbone, at)
        super().__init__(backbone, tasks, only, heads, branch, input_shape)
        self.automatic_optimization = False
        options = method_options or {}
        self.method = method if isinstance(method, Method) else create_method(method, **options)
        self.heads = heads_behind(rotations, self.method, self.heads, backbone)
        self._seeds_method = not isinstance(method, Method) and "seed" not in options
        # Before optimizer and checkpoint ask for the method's parameters and state.
        prepare_method(self.method, self.backbone, len(self.tasks), at, granularity)
        check_memory(memory, self.method, at, granularity == "network", len(self.tasks))
        self.at: At = at
        self.granularity: Granularity = granularity
        self.memory: Memory = memory
        self.optimizer_factory = optimizer
        self.scheduler_factory = scheduler
        self.scheduler_interval: Interval = scheduler_interval
        self.monitor = Monitor(monitor)
        self.update_scale: UpdateScale = update_scale
        self.gradient_clip_val = gradient_clip_val
        self.task_modules = task_modules(self.tasks, known=self)

    def configure_callbacks(self) -> list[pl.Callback]:
        """Refuse an unsupported trainer in the first hook that sees it; keep DDP from wrapping."""
        trainer = self._trainer
        if trainer is None or not trainer.training:
            return []
        callbacks = callbacks_for(trainer)
        check_one_norm(self.gradient_clip_val, trainer)
        if trainer.accumulate_grad_batches > 1:
            check_accumulates(self.method, self.at == "representation", len(self.tasks))
            check_whole_batch(self.memory, len(self.tasks))
        # Lightning's check comes next, which refuses to clip and accumulate where a module
        # optimises by itself, as this one does from setup() on.
        self.automatic_optimization = True
        return callbacks

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimizer over all parameters, of method and losses too, and the scheduler."""
        optimizer = self.optimizer_factory(optimized_parameters(self))
        if self.lr is not None:
            for group in optimizer.param_groups:
                group["lr"] = self.lr
        set_own_rates(optimizer, self.backbone)
        if self.scheduler_factory is None:
            return optimizer
        return scheduled(optimizer, self.scheduler_factory(optimizer), self.scheduler_interval, self.monitor)

    def setup(self, stage: str) -> None:
        self.automatic_optimization = False
        if stage == "fit" and self.run_seed is None:
            self.run_seed = self.trainer.strategy.broadcast(torch.initial_seed() % 2**32)
            if self._seeds_method:
                self.method.reseed(self.run_seed)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["run_seed"] = self.run_seed
        checkpoint[RUN] = run_record(self.task_names, self.method)
        checkpoint["monitored"] = self.monitor.news(self.trainer.callback_metrics) if _fits(self.trainer) else None

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self._trainer is not None and self._trainer.training:
            check_same_run(checkpoint, run_record(self.task_names, self.method))
        check_same_network(list(checkpoint["state_dict"]), list(self.state_dict()))
        split_learned_numbers(checkpoint, self)
        self.run_seed = checkpoint["run_seed"]
        self.monitor.keep(checkpoint.get("monitored"))

    def on_train_start(self) -> None:
        self.monitor.check(self.trainer)
        refuse_missing_validation(self.method, self.trainer.train_dataloader, len(self.tasks))
        self.begin_steps()
        for logger in self.loggers:
            logger.log_hyperparams(hyperparameters(self, self.trainer))
        self._resumes = self.current_epoch > 0

    def on_train_epoch_start(self) -> None:
        self.drop_window()
        begin_epoch_of(self.backbone, self.current_epoch, self.trainer.max_epochs or -1)
        assert self.run_seed is not None
        seed_data(self.run_seed, self.current_epoch, data_rank(self.trainer))
        if self._resumes:
            begin_data_again(self.trainer)
        self._resumes = False

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        # Dropout and the like become a function of (seed, epoch), so that a resumed run repeats an
        # uninterrupted one. Not at the start of the epoch: Lightning makes its data iterator, which
        # draws a number, before or after that.
        if batch_idx == 0:
            assert self.run_seed is not None
            seed_training(self.run_seed, self.current_epoch, self.global_rank)

    def on_train_epoch_end(self) -> None:
        self.engine.check_finite()  # before this epoch's checkpoint is written
        self.method.end_epoch()
        step_schedules(self.trainer, "epoch", self.monitor)
        self.monitor.forget()

    def on_validation_epoch_end(self) -> None:
        super().on_validation_epoch_end()
        if _fits(self.trainer) and self.monitor.of_validation:
            self.monitor.renew()


def _fits(trainer: pl.Trainer) -> bool:
    return trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking
