"""Progress without a terminal: one line a minute at most, where a bar would fill a log."""

import sys
import time
from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_only

from recon.progress import SILENCE, elapsed
from recon.training.step_values import is_step_value


class ProgressLines(pl.Callback):
    """Prints the progress of a run, and how long it will take, after a minute without a line.

    The first and the last epoch print the losses of the last step and the metrics in any case,
    others if a minute has passed. Long epochs and evaluations print their batches.
    """

    def __init__(self) -> None:
        self._began = self._told = time.monotonic()
        self._before = 0.0
        self._epoch: str | None = None
        self._printed = ""

    @rank_zero_only
    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._began = self._told = time.monotonic()

    @rank_zero_only
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._before = _share(trainer, 0)

    @rank_zero_only
    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *rest: Any) -> None:
        if self._is_silent():
            done = int(rest[-1]) + 1
            batches = _of(done, trainer.num_training_batches)
            self._print(f"epoch {_epoch(trainer)}, batch {batches}, {self._time(_share(trainer, done))}")

    @rank_zero_only
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        values = "  ".join(
            f"{name} {value:.4g}" for name, value in trainer.callback_metrics.items() if not is_step_value(name)
        )
        time_of_it = self._time(_share(trainer, trainer.num_training_batches))
        is_first, self._epoch = self._epoch is None, f"epoch {_epoch(trainer)}: {values}  ({time_of_it})"
        if is_first or self._is_silent():
            self._print(self._epoch)

    @rank_zero_only
    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._epoch is not None and self._epoch != self._printed:
            self._print(self._epoch)

    @rank_zero_only
    def on_validation_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *rest: Any) -> None:
        self._evaluated("validation", trainer.num_val_batches, *rest[2:])

    @rank_zero_only
    def on_test_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *rest: Any) -> None:
        self._evaluated("test", trainer.num_test_batches, *rest[2:])

    @rank_zero_only
    def on_predict_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *rest: Any) -> None:
        self._evaluated("prediction", trainer.num_predict_batches, *rest[2:])

    def _evaluated(self, what: str, batches: Sequence[float], batch: int, loader: int = 0) -> None:
        """Tell of the batches of an evaluation, which may have several loaders."""
        if self._is_silent():
            done = int(sum(batches[:loader])) + batch + 1
            self._print(f"{what}: batch {_of(done, sum(batches))}, {elapsed(time.monotonic() - self._began, 0)}")

    def _time(self, share: float) -> str:
        """The time of the run so far, and the time left."""
        own = (share - self._before) / max(1 - self._before, 1e-9)
        return elapsed(time.monotonic() - self._began, own)

    def _is_silent(self) -> bool:
        return time.monotonic() - self._told > SILENCE

    def _print(self, line: str) -> None:
        print(line, flush=True)
        self._told, self._printed = time.monotonic(), line


def without_terminal(options: dict[str, Any]) -> bool:
    """Whether a trainer's options leave the progress bar open and the output is no terminal."""
    return options.get("enable_progress_bar") is None and not sys.stdout.isatty()


def _epoch(trainer: pl.Trainer) -> str:
    """The number of the epoch that goes on, of how many."""
    last = trainer.max_epochs
    return _of(trainer.current_epoch + 1, float("inf") if last in (None, -1) else last)


def _of(done: int, total: float) -> str:
    return str(done) if total == float("inf") else f"{done}/{total:.0f}"


def _share(trainer: pl.Trainer, batches: float) -> float:
    """The share of a training that is done, with so many batches of its epoch; 0 if unknown."""
    steps = trainer.global_step / trainer.max_steps if trainer.max_steps > 0 else 0.0
    if trainer.max_epochs in (None, -1) or trainer.num_training_batches == float("inf"):
        return steps
    epochs = (trainer.current_epoch + batches / max(trainer.num_training_batches, 1)) / max(trainer.max_epochs, 1)
    return max(steps, epochs)
