"""Progress without a terminal: one line an epoch, where a bar would fill a log."""

import sys
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_only


class EpochLines(pl.Callback):
    """Print the losses of the last step and the metrics at the end of each training epoch."""

    @rank_zero_only
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        values = "  ".join(f"{name} {value:.4g}" for name, value in trainer.callback_metrics.items())
        last = "" if trainer.max_epochs in (None, -1) else f"/{trainer.max_epochs}"
        print(f"epoch {trainer.current_epoch + 1}{last}: {values}", flush=True)


def without_terminal(options: dict[str, Any]) -> bool:
    """Whether a trainer's options leave the progress bar open and the output is no terminal."""
    return options.get("enable_progress_bar") is None and not sys.stdout.isatty()
