"""A few steps of a run, really taken, to know what the whole run costs."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from typing import Any

import pytorch_lightning as pl
import torch

from recon.experiments.cost import count_parameters, flops_of_sample
from recon.experiments.fit import devices_of
from recon.experiments.job import Job
from recon.experiments.run import draw_predictions, quiet_lightning, trainer_of
from recon.training import ConflictCallback

WARM_UP = 3
"""Batches at first that are not timed: memory is allocated, kernels are chosen."""

MEASURED = 10
"""Batches that are timed."""

_TESTED = 4
"""Batches of the test set that are timed, the first left out."""


@dataclass(frozen=True)
class Trial:
    """What a few steps of a run tell about it. Times are in seconds.

    Attributes:
        layers: Number of layers that are branched.
        parameters: Parameters of network and heads.
        flops: Operations of a forward of one sample for all tasks.
        batch: Time of a batch of training; its loading, the method and the conflicts included.
        batches: Number of batches of the whole training.
        epochs: Number of epochs.
        test_batch: Time of a batch of the test set.
        test_batches: Number of these; 0 if nobody knows.
        before: Time before the first batch: network, data, trainer.
        after: Time for the picture of the predictions.
        saving: Time of a checkpoint, of which each epoch has one.
        checkpoint: Size of a checkpoint, in bytes.
        memory: The most memory in use, in bytes, of the accelerator or else of the process;
            ``None`` where the machine does not tell.
    """

    layers: int
    parameters: int
    flops: int
    batch: float
    batches: int
    epochs: int
    test_batch: float
    test_batches: int
    before: float
    after: float
    saving: float
    checkpoint: int
    memory: int | None

    @property
    def seconds(self) -> float:
        """The time of the whole run."""
        trained = self.batches * self.batch + self.epochs * self.saving
        return self.before + trained + self.test_batches * self.test_batch + self.after


def try_out(job: Job) -> Trial:
    """Take the first steps of a run in a temporary folder, and measure them.

    If the run finds a conflict map, that of the few steps is written where other runs look for it.

    Args:
        job: The run; its layers must be known. Its folder should be a likeness.

    Raises:
        ValueError: The run refuses its configuration, or has no batch.
    """
    began = time.perf_counter()
    fit = job.own_fit()
    devices = devices_of(fit.section)
    with quiet_lightning(), TemporaryDirectory(prefix="recon-dry-run-") as temporary:
        command, directory = fit.command(), Path(temporary)
        module, data = command.model, command.datamodule
        watch = _Stopwatch()
        trainer = trainer_of(_few_steps(fit.configuration["trainer"]), directory, [*_observer(job), watch])
        with _memory(trainer.strategy.root_device) as memory:
            trainer.fit(module, datamodule=data)
            if not watch.training:
                raise ValueError(f"{job.run.id}: no step was taken: the data gave no batch to train on")
            saving = _timed(lambda: trainer.save_checkpoint(directory / "trial.ckpt"))
            trainer.test(module, datamodule=data, verbose=False)
        after = _timed(lambda: draw_predictions(module, data, directory))
        branch = fit.configuration["model"].get("branch") or {}
        return Trial(
            layers=len(branch.get("layers") or ()),
            parameters=count_parameters(module.backbone, module.heads),
            flops=flops_of_sample(module, data),
            batch=watch.batch(job.plan.every),
            batches=_batches(fit.configuration["trainer"], trainer, devices),
            epochs=fit.configuration["trainer"]["max_epochs"],
            test_batch=mean(watch.testing[1:] or watch.testing or [0.0]),
            test_batches=_number(data.test_dataloader(), fit.configuration["trainer"]) // devices,
            before=watch.began - began,
            after=after,
            saving=saving,
            checkpoint=(directory / "trial.ckpt").stat().st_size,
            memory=memory[0],
        )


class _Stopwatch(pl.Callback):
    """Times the batches after the first ones; the time between two holds all that a batch takes."""

    def __init__(self) -> None:
        self.began = 0.0
        self.training: list[float] = []
        self.testing: list[float] = []
        self._last = 0.0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._last = _now(trainer)
        self.began = self.began or self._last

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *rest: Any) -> None:
        self._last = self._take(trainer, self.training)

    def on_test_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._last = _now(trainer)

    def on_test_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *rest: Any) -> None:
        self._last = self._take(trainer, self.testing)

    def _take(self, trainer: pl.Trainer, times: list[float]) -> float:
        now = _now(trainer)
        times.append(now - self._last)
        return now

    def batch(self, every: int) -> float:
        """The mean time of a batch, if conflicts are observed in each n-th step."""
        times = self.training[WARM_UP:] or self.training[-1:]
        if every == 1 or len(times) < 2:
            return mean(times)
        observed, others = (mean(times[(WARM_UP + one) % 2 :: 2]) for one in (0, 1))
        return others + (observed - others) / every


def _now(trainer: pl.Trainer) -> float:
    if trainer.strategy.root_device.type == "cuda":
        torch.cuda.synchronize(trainer.strategy.root_device)
    return time.perf_counter()


def _few_steps(options: dict[str, Any]) -> dict[str, Any]:
    """The options of a trainer of one device that ends after a few batches."""
    accumulated = options.get("accumulate_grad_batches") or 1
    steps = -(-(WARM_UP + MEASURED) // accumulated)
    planned = options.get("max_steps", -1)
    tested = options.get("limit_test_batches")
    return {
        **options,
        "devices": 1,
        "strategy": "auto",
        "max_steps": steps if planned == -1 else min(steps, planned),
        "limit_test_batches": min(tested, _TESTED) if type(tested) is int else _TESTED,
        "enable_checkpointing": False,
    }


def _observer(job: Job) -> list[pl.Callback]:
    """The callback by which a run finds its conflict map; of two steps it observes one at least."""
    if job.run.variant in ("single", "grid"):
        return []
    path = job.folder.conflict_map(job.run.id)
    path.parent.mkdir(parents=True, exist_ok=True)
    return [ConflictCallback(every=min(job.plan.every, 2), path=str(path))]


def _batches(options: dict[str, Any], trainer: pl.Trainer, devices: int) -> int:
    """Number of batches of the planned training, on each device."""
    batches = options["max_epochs"] * trainer.num_training_batches / devices
    if options.get("max_steps", -1) != -1:
        batches = min(batches, options["max_steps"] * trainer.accumulate_grad_batches)
    return round(batches)


def _number(loader: Any, options: dict[str, Any]) -> int:
    """Number of batches of the test set that a run takes; 0 for a stream."""
    limit = options.get("limit_test_batches")
    try:
        number = len(loader)
    except TypeError:
        number = 0
    if type(limit) is float:
        return int(number * limit)
    return number if limit is None else min(limit, number or limit)


def _timed(action: Callable[[], None]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


@contextmanager
def _memory(device: torch.device) -> Iterator[list[int | None]]:
    """Write the most memory that was in use in this context into the list that it gives."""
    peak: list[int | None] = [None]
    process = Path("/proc/self")
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif (process / "clear_refs").exists():
        (process / "clear_refs").write_text("5")  # the peak counts from here
    yield peak
    if device.type == "cuda":
        peak[0] = torch.cuda.max_memory_reserved(device)
    elif (process / "status").exists():
        peak[0] = _peak_of((process / "status").read_text())


def _peak_of(status: str) -> int | None:
    """The peak of a process's memory, in bytes, by its ``/proc/PID/status``."""
    values = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    return int(values["VmHWM"].split()[0]) * 1024 if "VmHWM" in values else None
