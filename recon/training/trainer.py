"""The trainer of the command line: ``fit``, ``search``, ``validate``, ``test`` and ``predict``."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.utilities.model_helpers import is_overridden

from recon.files.atomic import check_writable, remove_leftovers
from recon.training.callbacks import ConflictCallback
from recon.training.predictions import PredictionFiles, check_new
from recon.training.refusals import refuse_unsupported
from recon.training.resuming import checkpoint_file, how_to_go_on, refuse_search
from recon.training.run_folder import tell


class Trainer(pl.Trainer):
    """Lightning's trainer with conflict search; its checkpoints are plain data files."""

    callbacks: list[pl.Callback]

    def fit(  # type: ignore[override]  # all data of the command line are data modules
        self,
        model: pl.LightningModule,
        datamodule: pl.LightningDataModule | None = None,
        ckpt_path: str | None = None,
    ) -> None:
        """Train a network.

        Args:
            model: The network to train.
            datamodule: Its data.
            ckpt_path: Go on from this checkpoint, a file; ``last`` for the newest of the runs
                beside this one.
        """
        refuse_unsupported(self)  # in this process: some strategies begin by starting others
        checkpoint = None if ckpt_path is None else checkpoint_file(self, ckpt_path)
        if checkpoint is not None and not self._observes:
            refuse_search(checkpoint)
        with self._interruptible():
            super().fit(model, datamodule=datamodule, ckpt_path=checkpoint, weights_only=True)
        tell(self)

    def search(
        self,
        model: pl.LightningModule,
        datamodule: pl.LightningDataModule | None = None,
        map_path: str = "conflict_map.json",
        every: int = 1,
        ckpt_path: str | None = None,
    ) -> None:
        """Train as ``fit`` does while observing conflicts, and write the conflict map.

        Args:
            model: The network to search.
            datamodule: Its data.
            map_path: Where the conflict map is written, after each epoch.
            every: Observe each n-th step.
            ckpt_path: Go on from this checkpoint, a file; ``last`` for the newest of the runs
                beside this one.
        """
        if self._observes:
            raise ValueError("the configuration has a ConflictCallback already; run `recon fit`, or take it out")
        if not map_path or Path(map_path).is_dir():
            raise ValueError(f"--map_path {map_path!r} is no file; give one to write the conflict map to")
        check_writable(Path(map_path), "--map_path")
        if Path(map_path).parent.is_dir():
            remove_leftovers(Path(map_path).parent)
        self.callbacks.insert(0, ConflictCallback(every=every, path=map_path))
        self.fit(model, datamodule=datamodule, ckpt_path=ckpt_path)
        if self.is_global_zero:
            print(f"conflict map: {map_path}")

    def validate(  # type: ignore[override]
        self,
        model: pl.LightningModule,
        datamodule: pl.LightningDataModule | None = None,
        ckpt_path: str | None = None,
    ) -> None:
        """Evaluate a checkpoint on the validation set.

        Args:
            model: The network.
            datamodule: Its data.
            ckpt_path: The checkpoint, a file; ``last`` for the newest of the runs beside this one.
        """
        with self._interruptible():
            super().validate(model, datamodule=datamodule, ckpt_path=self._trained(ckpt_path), weights_only=True)

    def test(  # type: ignore[override]
        self,
        model: pl.LightningModule,
        datamodule: pl.LightningDataModule | None = None,
        ckpt_path: str | None = None,
    ) -> None:
        """Evaluate a checkpoint on the test set.

        Args:
            model: The network.
            datamodule: Its data.
            ckpt_path: The checkpoint, a file; ``last`` for the newest of the runs beside this one.
        """
        with self._interruptible():
            super().test(model, datamodule=datamodule, ckpt_path=self._trained(ckpt_path), weights_only=True)

    def predict(  # type: ignore[override]
        self,
        model: pl.LightningModule,
        datamodule: pl.LightningDataModule | None = None,
        out: str = "predictions",
        ckpt_path: str | None = None,
    ) -> None:
        """Write the predictions of a checkpoint for ``predict_dataloader``, or else the test set.

        Args:
            model: The network.
            datamodule: Its data.
            out: Folder of the files, new or empty: TASK.npy, or TASK/0.npy, 1.npy, ... for tasks
                with a value per pixel.
            ckpt_path: The checkpoint, a file; ``last`` for the newest of the runs beside this one.
        """
        checkpoint, folder = self._trained(ckpt_path), Path(out)
        check_writable(folder, "--out")
        check_new(folder)
        self.callbacks.append(files := PredictionFiles(folder))
        if datamodule is not None and not is_overridden("predict_dataloader", datamodule, pl.LightningDataModule):
            datamodule.predict_dataloader = partial(_test_set, datamodule)  # type: ignore[method-assign]
        with self._interruptible():
            super().predict(
                model, datamodule=datamodule, return_predictions=False, ckpt_path=checkpoint, weights_only=True
            )
        if not self.is_global_zero:
            return
        numbers = " and ".join(map(str, dict.fromkeys(files.samples.values()))) or "0"
        print(f"predictions of {numbers} samples: {folder}")

    @property
    def _observes(self) -> bool:
        return any(isinstance(callback, ConflictCallback) for callback in self.callbacks)

    def _trained(self, path: str | None) -> str:
        if path is None:
            raise ValueError("untrained weights have nothing to show; give --ckpt_path FILE, or last for the newest")
        return checkpoint_file(self, path)

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """Raise KeyboardInterrupt on Ctrl-C, where Lightning exits, and say how to resume."""
        try:
            yield
        except SystemExit:
            if not self.interrupted:
                raise
            saved = [c.best_model_path for c in self.callbacks if isinstance(c, ModelCheckpoint) and c.best_model_path]
            raise KeyboardInterrupt(how_to_go_on(saved)) from None


def _test_set(data: pl.LightningDataModule) -> Any:
    """The test set of data that may know the stage ``test`` but not ``predict``."""
    data.setup("test")
    return data.test_dataloader()
