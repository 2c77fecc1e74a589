"""Conflict while a training runs: pictures in loggers, and files of numbers.

The view measures its own time, and begins nothing that would raise its part of the training time
above its share. What it shows is of the steps that a :class:`~recon.training.ConflictCallback`
observes; the step itself does nothing for it.
"""

import csv
import io
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
from numpy.typing import NDArray

from recon.conflict import MeasuredMap
from recon.conflict.severity import BIN_EDGES, DEFAULT_SEVERITY, severity_in_hundredths
from recon.files.atomic import write_atomically
from recon.training.both_lightnings import is_lightnings
from recon.training.callbacks import ConflictCallback
from recon.training.run_folder import run_folder

_NUMBERS, _PICTURE = 0.02, 0.6
"""Seconds that the first files of numbers and the first picture are taken to cost."""

OVER_TIME, COSINES = "conflict_over_time.csv", "cosines.csv"


class Share:
    """A share of the training time, which is spent bit by bit.

    Args:
        share: The share, such as 0.005.
        first: Seconds that the first spending is taken to cost.

    Example:
        >>> share = Share(0.01, first=1.0)
        >>> share.begin(now=0.0)
        >>> share.allows(now=99.0), share.allows(now=101.0)
        (False, True)
        >>> share.spend(3.0)
        >>> share.allows(now=590.0), share.allows(now=610.0)
        (False, True)
    """

    def __init__(self, share: float, first: float) -> None:
        self.share, self.spent, self._next = share, 0.0, first
        self._due = float("inf")

    def begin(self, now: float) -> None:
        """Begin to count the training time."""
        self._began, self.spent = now, 0.0
        self._plan()

    def allows(self, now: float) -> bool:
        """Whether one more spending as large as the last one stays within the share."""
        return now >= self._due

    def spend(self, seconds: float) -> None:
        """Count a spending."""
        self.spent, self._next = self.spent + seconds, seconds
        self._plan()

    def _plan(self) -> None:
        self._due = self._began + (self.spent + self._next) / self.share


class LiveView(pl.Callback):
    """Shows conflict by layer over time while training, in TensorBoard, in W&B and as CSV.

    It needs a :class:`~recon.training.ConflictCallback` beside it, and a logger. TensorBoard and
    W&B get a heat map of the conflict by layer over time and the histogram of the cosines since the
    last one. Two files in the folder of the run hold the same numbers: ``conflict_over_time.csv``
    and ``cosines.csv``. At the end of the training all are made once more.

    Method weights, gradient norms and the conflict rate need no view: ``recon.MultiTaskModule``
    logs them to every logger.

    >>> callbacks = [ConflictCallback(every=10), LiveView()]
    >>> trainer = pl.Trainer(callbacks=callbacks, max_epochs=40, logger=False)

    Args:
        severity: S of the conflicts in the heat map; a multiple of 0.01.
        share: The largest part of the training time that the view takes.

    Raises:
        ValueError: The severity is off the grid, or the share is not between 0 and 1; or, when
            training begins, there is no ConflictCallback.
    """

    def __init__(self, severity: float = DEFAULT_SEVERITY, share: float = 0.005) -> None:
        severity_in_hundredths(severity)
        if not 0 < share < 1:
            raise ValueError(f"share={share}; give the part of the training time that the view may take, as 0.005")
        self.severity = severity
        self.shares = {"numbers": Share(share / 2, _NUMBERS), "pictures": Share(share / 2, _PICTURE)}
        self._before: NDArray[np.int64] | None = None
        self._shown = -1

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        self._conflict(trainer)
        if any(_shows_pictures(logger) for logger in trainer.loggers) and trainer.is_global_zero:
            import recon.plot  # noqa: F401  # matplotlib takes a second, which no step should

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        for share in self.shares.values():
            share.begin(time.monotonic())

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now = time.monotonic()
        for kind, share in self.shares.items():
            if share.allows(now):
                self._show(trainer, kind)
                share.spend(time.monotonic() - now)
                return

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        for kind in self.shares:
            self._show(trainer, kind)

    def _show(self, trainer: pl.Trainer, kind: str) -> None:
        analyzer = self._conflict(trainer).analyzer
        if analyzer is None or not analyzer.observed_steps or not trainer.loggers or not trainer.is_global_zero:
            return
        cmap = analyzer.conflict_map()
        if kind == "numbers":
            self._write(trainer, cmap)
        else:
            self._draw(trainer, cmap)

    def _write(self, trainer: pl.Trainer, cmap: MeasuredMap) -> None:
        """Write the files, and hand the cosines since the last time to loggers."""
        folder, step = run_folder(trainer), trainer.global_step
        if self._shown == step:
            return
        write_atomically(folder / OVER_TIME, _table_over_time(cmap, self.severity))
        counts = cmap.histogram.sum(dim=(0, 1)).numpy()
        new = counts if self._before is None else counts - self._before
        self._before, self._shown = counts, step
        _append(folder / COSINES, step, new)
        if new.sum():
            for logger in trainer.loggers:
                _log_cosines(logger, new, step)

    def _draw(self, trainer: pl.Trainer, cmap: MeasuredMap) -> None:
        shown = [logger for logger in trainer.loggers if _shows_pictures(logger)]
        if not shown:
            return
        from matplotlib import pyplot as plt

        from recon.plot import conflict_over_steps

        steps, rates = over_time(cmap, self.severity)
        figure = conflict_over_steps(rates, steps, cmap.layers).get_figure(root=True)
        assert figure is not None
        for logger in shown:
            _log_figure(logger, figure, trainer.global_step)
        plt.close(figure)

    def _conflict(self, trainer: pl.Trainer) -> ConflictCallback:
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, ConflictCallback):
                return callback
        raise ValueError(
            "LiveView shows what a ConflictCallback observes, and the trainer has none; give both: "
            "Trainer(callbacks=[ConflictCallback(every=10), LiveView()])"
        )


def over_time(cmap: MeasuredMap, severity: float) -> tuple[list[int], NDArray[np.float64]]:
    """The conflict of each layer in stretches of steps.

    Args:
        cmap: A map, the present one of an analyzer.
        severity: S; a multiple of 0.01.

    Returns:
        The last step of each of T stretches, and (T, L) fractions of (step, pair) in conflict.
    """
    assert cmap.stretches is not None
    observed = np.array(cmap.stretches.steps)
    every, taken = cmap.provenance.get("every") or 1, cmap.provenance.get("steps") or 0
    steps = observed.cumsum() * every
    if steps[-1] - every < taken:  # else the gramians did not come from steps
        steps[-1] = min(steps[-1], taken)
    rates = cmap.stretches.scores(severity) / (observed[:, None] * len(cmap.pairs))
    return steps.tolist(), rates


def _table_over_time(cmap: MeasuredMap, severity: float) -> str:
    steps, rates = over_time(cmap, severity)
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["step", *cmap.layers])
    table.writerows([step, *(f"{rate:.6g}" for rate in row)] for step, row in zip(steps, rates.tolist(), strict=True))
    return text.getvalue()


def _append(path: Path, step: int, counts: NDArray[np.int64]) -> None:
    """Add a row of counts per bin of cosines, named by its lower edge."""
    is_new = not path.exists()
    with path.open("a", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        if is_new:
            table.writerow(["step", *(f"{edge:.2f}" for edge in BIN_EDGES[:-1])])
        table.writerow([step, *counts.tolist()])


def _shows_pictures(logger: Any) -> bool:
    return is_lightnings(logger, "TensorBoardLogger", "WandbLogger")


def _log_figure(logger: Any, figure: Any, step: int) -> None:
    if is_lightnings(logger, "TensorBoardLogger"):
        logger.experiment.add_figure("conflict/by_layer_over_time", figure, step, close=False)
    elif is_lightnings(logger, "WandbLogger"):
        import wandb

        values = {"conflict/by_layer_over_time": wandb.Image(figure), "trainer/global_step": step}
        logger.experiment.log(values)


def _log_cosines(logger: Any, counts: NDArray[np.int64], step: int) -> None:
    edges = np.array(BIN_EDGES)
    if is_lightnings(logger, "TensorBoardLogger"):
        centres, number = (edges[:-1] + edges[1:]) / 2, int(counts.sum())
        logger.experiment.add_histogram_raw(
            "conflict/cosines",
            min=float(centres[counts > 0].min()),
            max=float(centres[counts > 0].max()),
            num=number,
            sum=float(counts @ centres),
            sum_squares=float(counts @ centres**2),
            bucket_limits=edges[1:].tolist(),
            bucket_counts=counts.tolist(),
            global_step=step,
        )
    elif is_lightnings(logger, "WandbLogger"):
        import wandb

        values = {"conflict/cosines": wandb.Histogram(np_histogram=(counts, edges)), "trainer/global_step": step}
        logger.experiment.log(values)
