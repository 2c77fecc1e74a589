"""The cost of the live view: the same training with and without it, in turns.

Runs of ResNet-18 on Multi-Fashion+MNIST observe each tenth step and log to TensorBoard and CSV; the
second of each pair has a ``LiveView`` too. Times are of the process's CPU, so that other load does
not count, from the first step to the last, without the drawing after the end.

    python benchmarks/live_view.py --data DIR --steps 120 --pairs 3
"""

import argparse
import logging
import statistics
import tempfile
import time
import warnings
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger

from recon.data import MultiFashionMNIST
from recon.models import ResNet18
from recon.training import ConflictCallback, LiveView, MultiTaskModule


class TimedView(LiveView):
    """A view with the CPU seconds of its part of the steps."""

    seconds = 0.0

    def on_train_batch_end(self, *arguments: Any) -> None:
        before = time.process_time()
        super().on_train_batch_end(*arguments)
        self.seconds += time.process_time() - before


class Clock(pl.Callback):
    """CPU seconds of each step."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._last = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._last = time.process_time()

    def on_train_batch_end(self, *arguments: Any) -> None:
        now = time.process_time()
        self.seconds.append(now - self._last)
        self._last = now


def seconds_of_steps(data: pl.LightningDataModule, width: int, steps: int, view: TimedView | None) -> list[float]:
    pl.seed_everything(0, verbose=False)
    clock = Clock()
    callbacks: list[pl.Callback] = [] if view is None else [view]
    with tempfile.TemporaryDirectory() as folder:
        trainer = pl.Trainer(
            max_steps=steps,
            accelerator="cpu",
            callbacks=[ConflictCallback(every=10), *callbacks, clock],
            logger=[CSVLogger(folder), TensorBoardLogger(folder, name="board")],
            default_root_dir=folder,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            limit_val_batches=0,
        )
        trainer.fit(MultiTaskModule(ResNet18(width=width), data.tasks), datamodule=data)
    return clock.seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="folder of Multi-Fashion+MNIST's parts")
    parser.add_argument("--width", type=int, default=16, help="base width of ResNet-18")
    parser.add_argument("--batch", type=int, default=128, help="batch size")
    parser.add_argument("--steps", type=int, default=120, help="steps of each run")
    parser.add_argument("--pairs", type=int, default=3, help="pairs of runs")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    data = MultiFashionMNIST(root=arguments.data, batch_size=arguments.batch)
    seconds_of_steps(data, arguments.width, 3, TimedView())  # imports and caches
    ratios, shares = [], []
    for pair in range(arguments.pairs):
        view = TimedView()
        views = [None, view] if pair % 2 == 0 else [view, None]
        found = {one is view: seconds_of_steps(data, arguments.width, arguments.steps, one) for one in views}
        ratios.append(sum(found[True]) / sum(found[False]))
        shares.append(view.seconds / sum(found[True]))
        print(
            f"pair {pair}: {1000 * statistics.median(found[False]):.1f} ms a step without, "
            f"{1000 * statistics.median(found[True]):.1f} with the view; all steps x {ratios[-1]:.4f}; "
            f"in the view {view.seconds:.3f} s of {sum(found[True]):.1f} s, {100 * shares[-1]:.2f} %",
            flush=True,
        )
    print(f"mean: all steps x {statistics.mean(ratios):.4f}; in the view {100 * statistics.mean(shares):.2f} %")


if __name__ == "__main__":
    main()
