"""Learning-rate schedules under manual optimisation, which the module has to step itself."""

from collections.abc import Collection, Mapping
from typing import Literal, get_args

import pytorch_lightning as pl
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR, ReduceLROnPlateau

from recon.errors import unknown_name

Interval = Literal["epoch", "step"]
"""When a schedule steps: at the end of each epoch, or after each optimizer step."""


def check_interval(interval: str) -> None:
    """Refuse an unknown interval."""
    if interval not in get_args(Interval):
        raise unknown_name("scheduler_interval", interval, get_args(Interval))


class Monitor:
    """The metric that steers schedules on a plateau.

    Args:
        name: The metric's name as it is logged; ``None`` for no metric.
    """

    def __init__(self, name: str | None) -> None:
        self.name = name
        self._fresh = False  # whether it was logged since the last look; an earlier value is no news
        self._kept: float | None = None

    @property
    def of_validation(self) -> bool:
        """Whether the metric is one of validation, which not every epoch has."""
        return self.name is not None and self.name.startswith("val/")

    def check(self, trainer: pl.Trainer) -> None:
        """Refuse a metric of validation where the trainer does not validate."""
        if self.of_validation and not trainer.enable_validation:
            raise ValueError(
                f"monitor={self.name!r} is a metric of validation, and the trainer does not validate; give validation "
                "data, or a schedule without a metric"
            )

    def renew(self) -> None:
        """Note that the trainer has a new value of the metric."""
        self._fresh, self._kept = True, None

    def hear(self, logged: Collection[str], among: Collection[str]) -> None:
        """Note the values of a training step.

        A step without labels of a task has no news of the task's loss. Metrics that others log in
        training count as new after each step.

        Args:
            logged: Names of the values of this step.
            among: Names of the values that steps may have.
        """
        if not self.of_validation and (self.name in logged or self.name not in among):
            self.renew()

    def news(self, metrics: Mapping[str, Tensor]) -> float | None:
        """The metric's value since the last look; ``None`` without one.

        Raises:
            ValueError: There is no metric of that name.
        """
        if self._kept is not None:
            return self._kept
        if self.name is None or not self._fresh:
            return None
        if self.name not in metrics:
            raise unknown_name("metric to monitor", self.name, metrics)
        return metrics[self.name].item()

    def keep(self, value: float | None) -> None:
        """Take over the value of a checkpoint from between a validation and the epoch's end."""
        self._kept = value

    def forget(self) -> None:
        """Forget the value, when a schedule has looked at it or the epoch ends."""
        self._fresh, self._kept = False, None


def scheduled(
    optimizer: Optimizer, scheduler: LRScheduler, interval: Interval, monitor: Monitor
) -> OptimizerLRSchedulerConfig:
    """An optimizer with its schedule, in Lightning's form.

    Args:
        optimizer: The optimizer.
        scheduler: Its learning-rate schedule.
        interval: When the schedule steps.
        monitor: The metric of schedules on a plateau.

    Raises:
        ValueError: The schedule needs a metric and has none, or has one and does not use it.
    """
    if isinstance(scheduler, ReduceLROnPlateau) and monitor.name is None:
        raise ValueError(
            "ReduceLROnPlateau needs a metric: give its name as monitor, such as 'val/TASK/METRIC'; the values that "
            "steer training must not be of the test set, which the built-in data also give as validation"
        )
    if monitor.name is not None and not isinstance(scheduler, ReduceLROnPlateau):
        raise ValueError(
            f"monitor={monitor.name!r} has no use: {type(scheduler).__name__} looks at no metric; leave it out"
        )
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": interval}}


def step_schedules(trainer: pl.Trainer, interval: Interval, monitor: Monitor) -> None:
    """Step the trainer's schedules: the module's own, or a callback's in their place.

    Args:
        trainer: The trainer, during its fit.
        interval: Which schedules: those over epochs, at the end of one; or those over optimizer
            steps, after one.
        monitor: The metric of schedules on a plateau; without a new value they do not step.

    Raises:
        ValueError: There is no such metric, or a schedule has ended before training.
    """
    count = trainer.current_epoch + 1 if interval == "epoch" else trainer.global_step
    for config in trainer.lr_scheduler_configs:
        if config.interval != interval or count % config.frequency:
            continue
        if isinstance(config.scheduler, ReduceLROnPlateau):
            value = monitor.news(trainer.callback_metrics)
            if value is not None:
                config.scheduler.step(value)
                monitor.forget()
        elif not _ended(config.scheduler, trainer):
            config.scheduler.step()


def _ended(scheduler: object, trainer: pl.Trainer) -> bool:
    """Whether schedule and training end here; one more step would raise the rate of OneCycleLR."""
    if not isinstance(scheduler, OneCycleLR) or scheduler.last_epoch + 1 < scheduler.total_steps:
        return False
    last_epoch = trainer.max_epochs not in (None, -1) and trainer.current_epoch + 1 >= trainer.max_epochs
    if (trainer.is_last_batch and last_epoch) or trainer.global_step >= trainer.max_steps > -1:
        return True
    raise ValueError(
        f"OneCycleLR has come to the end of its total_steps={scheduler.total_steps}, and training goes on; give it the "
        "number of steps of all epochs (with scheduler_interval='step'), or of epochs"
    )
