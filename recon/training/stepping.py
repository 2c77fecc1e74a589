"""The optimizer steps of a multi-task network in Lightning, by a method of multi-task optimisation.

Lightning's part of a step is the scaler of its precision plugin, which the engine shares, and its
count of micro-batches.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from recon.conflict import ConflictAnalyzer
from recon.engine.checks import At
from recon.engine.engine import Engine
from recon.engine.evaluation import Evaluation
from recon.engine.groups import Granularity
from recon.engine.memory import Memory
from recon.engine.setting import UpdateScale
from recon.engine.step_info import StepInfo
from recon.methods import Method
from recon.training.lightning_callbacks import gathers_statistics
from recon.training.network import MultiTaskNetwork
from recon.training.rotation_options import check_same_samples
from recon.training.schedules import Monitor, step_schedules
from recon.training.step_values import gradient_norm, logs_now, step_value_names, step_values
from recon.training.validation_batches import divided
from recon.training.window import Window


class SteppedNetwork(MultiTaskNetwork):
    """A multi-task network that makes its own optimizer steps.

    Attributes:
        engine: Fills ``.grad``; made when training begins.
        window: The micro-batches of the next step.
    """

    method: Method
    task_modules: nn.ModuleDict
    at: At
    update_scale: UpdateScale
    granularity: Granularity
    memory: Memory
    gradient_clip_val: float | None
    monitor: Monitor
    analyzer: ConflictAnalyzer | None = None
    engine: Engine
    window: Window
    _gradient_norm: Tensor | None = None  # of the latest step that was logged

    def begin_steps(self) -> None:
        """Make the engine, on the network's device and with the trainer's scaler."""
        self.engine = Engine(
            self.backbone,
            self.task_names,
            self.method,
            self.analyzer,
            self.update_scale,
            self.at,
            granularity=self.granularity,
            memory=self.memory,
            scaler=getattr(self.trainer.precision_plugin, "scaler", None),
            heads=[self.heads, self.task_modules],
        )
        self.engine.step_count = self.trainer.global_step
        self.window = Window(self.trainer)

    def drop_window(self) -> None:
        """Drop micro-batches without an end, after a callback has ended their epoch early."""
        if self.window.batches:
            self.begin_steps()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if "window" in self.__dict__:
            self.window.rewind(checkpoint)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor | None:
        """Take one step of the method and the optimizer, or keep gradients for the next step.

        Returns:
            The sum of the task losses, which Lightning's learning-rate finder reads; ``None`` where
            there is no label to step by.
        """
        batch, held_out = divided(batch, self.trainer.train_dataloader)
        labelled = self.labelled(batch)
        if labelled.per_task:
            check_same_samples(self.heads)
        if gathers_statistics(self.trainer):
            with torch.no_grad():
                return _sum(self.losses(labelled))
        if not self.window.ends():
            losses = self._evaluation(labelled)
            self.engine.accumulate(losses)
            self.window.hold(labelled=bool(losses), names=[*self._step_names, *step_value_names(self.task_names)])
            return _sum(losses)
        has_labels = bool(labelled.counts) or self.window.labelled
        self.window.close()
        if not self.trainer.strategy.reduce_boolean_decision(has_labels, all=False):
            return None
        # Lightning's wrapper has to be the one that steps: it counts, unscales and clips.
        info = self.engine.step(
            partial(self._evaluation, labelled),
            cast(Optimizer, self.optimizers()),
            validation=None if held_out is None else partial(self._evaluation, self.labelled(held_out)),
        )
        if not info.overflow:  # otherwise no step was made
            self._log_step(info)
            step_schedules(self.trainer, "step", self.monitor)
        return _sum(info.losses)

    def _evaluation(self, batch: Any, other: Any = None) -> Evaluation:
        evaluate = self.evaluate if self.at == "parameters" else self.evaluate_with_features
        return evaluate(batch if other is None else other)

    def _log_step(self, info: StepInfo) -> None:
        values = {f"loss/{task}": loss for task, loss in info.losses.items()}
        if info.conflict_rate is not None:
            values["conflict"] = info.conflict_rate
        self.log_dict(values, prog_bar=True)
        self.monitor.hear(values, among=self._step_names)
        if logs_now(self.trainer):
            self.log_dict(step_values(info, self.task_names, self._gradient_norm))

    @property
    def _step_names(self) -> list[str]:
        """The names of all values that steps log."""
        return [*(f"loss/{task}" for task in self.task_names), "conflict"]

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        if logs_now(self.trainer):
            self._gradient_norm = gradient_norm(self)
        # None is the trainer's value. Under float16 the gradients have been unscaled.
        algorithm = None if self.gradient_clip_val is None else "norm"
        self.clip_gradients(optimizer, self.gradient_clip_val, algorithm)


def _sum(losses: Mapping[str, Tensor]) -> Tensor:
    return torch.stack([loss.detach() for loss in losses.values()]).sum() if losses else torch.zeros(())
