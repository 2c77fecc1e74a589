"""The search of BMTAS: weights and choices learn in turn, epoch by epoch.

Bruggemann et al., "Automated Search for Resource-Efficient Branched Multi-Task Networks", BMVC
2020, in the form of the authors' code. After a warm-up of the weights every epoch has two phases:

* **architecture**, on held-out samples. For each batch the choices make one Adam step along the sum
  over tasks of ``loss + resource_weight * expected GFLOPs``. Weights rest, and so do the running
  statistics of the stages.
* **weights**, on the other samples. For each batch and task the optimizer makes one step on the
  task's loss. The running statistics of the stages begin anew.

Each phase begins with a fresh state of its optimizer, since the other phase has moved its problem.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.optim import Adam, Optimizer
from torch.utils._pytree import tree_leaves

from recon.branching import TaskTree
from recon.data.contract import dataset_name_of
from recon.gradients.wrappers import is_partly_shared, unwrapped
from recon.methods import Joint
from recon.models import RotatedHeads
from recon.models.architectures.bmtas.network import BMTASNetwork
from recon.training.batch import takes_keywords
from recon.training.epochs import begin_data_again, seed_data, seed_training
from recon.training.labelled_batch import LabelledBatch
from recon.training.module import MultiTaskModule
from recon.training.network import MultiTaskNetwork
from recon.training.resuming import RUN, check_same_run
from recon.training.schedules import Monitor, scheduled, step_schedules
from recon.training.searching.halves import ARCHITECTURE, Alternation, alternation
from recon.training.searching.options import BMTASOptions


class BranchSearch(MultiTaskNetwork):
    """Search for the task tree of a network by BMTAS, and write it after each epoch.

    Backbone, tasks, heads and optimizer are those of a module that was made to be trained. Train it
    on the batches of :meth:`batches`.

    >>> from recon.models import LeNet
    >>> from recon.tasks import classification
    >>> module = MultiTaskModule(LeNet(), [classification("a", 2), classification("b", 3)])
    >>> search = BranchSearch(module, BMTASOptions(stages=["conv1", "conv2"]), "task_tree.json")
    >>> print(search.tree())
    conv1  a b
    conv2  a b

    Args:
        module: The module; its weights are copied.
        options: The settings of the search.
        path: File of the task tree.

    Raises:
        ValueError: The module has one task, branches, rotations or another method than ``joint``;
            or a stage is refused.
    """

    run_seed: int | None = None

    def __init__(self, module: MultiTaskModule, options: BMTASOptions, path: str) -> None:
        method = _check_plain(module)
        network = options.network(module.backbone, module.task_names)
        super().__init__(network, module.tasks, None, module.heads, None)
        self.known_tasks = module.known_tasks
        self.automatic_optimization = False
        self.options, self.path = options, Path(path)
        self.task_modules, self.gradient_clip_val = module.task_modules, module.gradient_clip_val
        self._optimizer_factory, self._scheduler_factory = module.optimizer_factory, module.scheduler_factory
        self._interval, self._monitor = module.scheduler_interval, Monitor(None)
        weights = method.loss_weights(torch.ones(len(self.tasks)))
        self._weights = dict(zip(self.task_names, weights.tolist(), strict=True))
        self._alternation: Alternation | None = None
        self._limit: int | float | None = None
        self._costs: Tensor | None = None
        self._phase = ""

    @property
    def network(self) -> BMTASNetwork:
        """The network of copies."""
        assert isinstance(self.backbone, BMTASNetwork)
        return self.backbone

    def batches(self, loader: Callable[[], Any]) -> Alternation:
        """The batches of an epoch, in two parts; in place of ``train_dataloader``.

        Args:
            loader: Makes the loader of training data.
        """
        assert self.run_seed is not None
        if self._limit is None:  # loaders may be made again
            self._limit = 1.0 if self.trainer.limit_train_batches is None else self.trainer.limit_train_batches
            self.trainer.limit_train_batches = 1.0  # each part is limited by itself
        self._alternation = alternation(loader(), self.options.share, self.run_seed, self._limit)
        return self._alternation

    def tree(self) -> TaskTree:
        """The task tree of the likeliest copies at present."""
        trainer = self._trainer
        return self.network.task_tree(
            asdict(self.options),
            dataset=dataset_name_of(getattr(trainer, "datamodule", None)),
            epochs=0 if trainer is None else trainer.current_epoch + 1,
            seed=self.run_seed,
        )

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The module's optimizer for all weights, and Adam for the choices."""
        weights = [*self.network.weight_parameters(), *self.heads.parameters(), *self.task_modules.parameters()]
        optimizer = self._optimizer_factory(dict.fromkeys(weights))
        choices = self.network.choices.parameters()
        adam = Adam(choices, lr=self.options.lr, weight_decay=self.options.weight_decay)
        if self._scheduler_factory is None:
            return [optimizer, adam]
        schedule = scheduled(optimizer, self._scheduler_factory(optimizer), self._interval, self._monitor)
        return [schedule, {"optimizer": adam}]  # type: ignore[return-value]

    def setup(self, stage: str) -> None:
        if stage == "fit" and self.run_seed is None:
            self.run_seed = torch.initial_seed() % 2**32

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["run_seed"] = self.run_seed
        checkpoint[RUN] = self._record()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        check_same_run(checkpoint, self._record())
        self.run_seed = checkpoint["run_seed"]

    def _record(self) -> dict[str, Any]:
        return {"tasks": self.task_names, "method": repr(self.options)}

    def on_train_start(self) -> None:
        self._resumes = self.current_epoch > 0

    def on_train_epoch_start(self) -> None:
        assert self.run_seed is not None and self._alternation is not None
        self.network.begin_epoch(self.current_epoch, self.trainer.max_epochs or -1)
        seed_data(self.run_seed, self.current_epoch)
        self._alternation.set_epoch(self.current_epoch)
        if self._resumes:
            begin_data_again(self.trainer)
        self._resumes, self._phase = False, ""

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        if batch_idx == 0:
            assert self.run_seed is not None
            seed_training(self.run_seed, self.current_epoch)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Take a step of the choices, or one of the weights for each task."""
        [(phase, own)] = batch.items()
        if self.network.warming_up and phase == ARCHITECTURE:
            return
        optimizers: Any = self.optimizers()
        optimizer = optimizers[1 if phase == ARCHITECTURE else 0]
        if phase != self._phase:
            self._enter(phase, optimizer.optimizer)
        labelled = self.labelled(own)
        if phase == ARCHITECTURE:
            self._step_choices(labelled, optimizer)
        else:
            self._step_weights(labelled, optimizer)

    def _enter(self, phase: str, optimizer: Optimizer) -> None:
        self._phase = phase
        if not self.network.warming_up:
            optimizer.state = defaultdict(dict)
            if phase != ARCHITECTURE:
                self.network.reset_statistics()

    def _step_choices(self, labelled: LabelledBatch, optimizer: Any) -> None:
        choices = [*self.network.choices.parameters()]
        optimizer.zero_grad()
        for task in labelled.counts:
            with self.network.statistics_kept():
                loss = self._loss(labelled, task)
            gflops = self._expected_gflops(labelled)
            self.manual_backward(loss + self.options.resource_weight * gflops.to(loss), inputs=choices)
        if labelled.counts:
            optimizer.step()
            self.log_dict({"gflops": gflops.detach(), "temperature": self.network.temperature}, prog_bar=True)

    def _step_weights(self, labelled: LabelledBatch, optimizer: Any) -> None:
        for task in labelled.counts:
            optimizer.zero_grad()
            loss = self._loss(labelled, task)
            self.manual_backward(loss)
            optimizer.step()
            self.log(f"loss/{task}", loss.detach(), prog_bar=True)
        if labelled.counts:
            step_schedules(self.trainer, "step", self._monitor)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        # Under float16 the gradients have been unscaled.
        if self._phase != ARCHITECTURE and self.gradient_clip_val is not None:
            self.clip_gradients(optimizer, self.gradient_clip_val, "norm")

    def _loss(self, labelled: LabelledBatch, task: str) -> Tensor:
        own = replace(labelled, counts={task: labelled.counts[task]})
        inputs = labelled.inputs[task] if labelled.per_task else labelled.inputs
        return self._weights[task] * self._losses(own, {task: self.run(task, inputs)})[task]

    def _expected_gflops(self, labelled: LabelledBatch) -> Tensor:
        """The expected operations of the stages for one sample, in GFLOPs."""
        if self._costs is None:
            inputs = next(iter(labelled.inputs.values())) if labelled.per_task else labelled.inputs
            self._costs = _of_sample(self.network, inputs) / 1e9
        copies = self.network.expected_copies()
        return (self._costs.to(copies) * copies).sum()

    def on_train_epoch_end(self) -> None:
        if not all(choice.isfinite().all() for choice in self.network.choices.parameters()):
            raise ValueError("the choices are no longer finite; give a lower lr of the search or of the weights")
        step_schedules(self.trainer, "epoch", self._monitor)
        self.tree().save(self.path)


def _check_plain(module: MultiTaskModule) -> Joint:
    """The method of a module, whose training must be one that the search does too.

    Raises:
        ValueError: It is not.
    """
    if not isinstance(module.method, Joint):
        raise ValueError(
            f"a search by bmtas trains on the sum of the losses, and the method is {type(module.method).__name__}; "
            "give method joint, with weights if need be"
        )
    if is_partly_shared(module.backbone) or hasattr(module.backbone, "tasks"):
        raise ValueError(
            f"a search by bmtas decides what tasks share, and {type(unwrapped(module.backbone)).__name__} has parts of "
            "each task's own already; leave out branch, and give a plain backbone"
        )
    if isinstance(module.heads, RotatedHeads):
        raise ValueError("a search by bmtas has no rotations; leave them out")
    return module.method


def _of_sample(network: BMTASNetwork, inputs: Any) -> Tensor:
    """The operations of one copy of each stage for one sample of a batch, ``(L,)``."""
    spread = isinstance(inputs, Mapping) and takes_keywords(network, inputs)
    costs = network.costs(**inputs) if spread else network.costs(inputs)
    samples = next(len(leaf) for leaf in tree_leaves(inputs) if isinstance(leaf, Tensor))
    return costs / samples
