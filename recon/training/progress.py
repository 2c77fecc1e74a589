"""Progress where there is no terminal: a line an epoch, where a bar would be drawn hundreds of times into a log."""

import sys
from typing import Any

import pytorch_lightning as pl


class EpochLines(pl.Callback):
    """Print a line at the end of each epoch of training: the losses of its last step, and the metrics."""

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        values = "  ".join(f"{name} {value:.4g}" for name, value in trainer.callback_metrics.items())
        last = "" if trainer.max_epochs in (None, -1) else f"/{trainer.max_epochs}"
        print(f"epoch {trainer.current_epoch + 1}{last}: {values}", flush=True)


def without_terminal(options: dict[str, Any]) -> bool:
    """Whether a trainer's options ask for no bar of their own, and nobody sees one."""
    return options.get("enable_progress_bar") is None and not sys.stdout.isatty()
