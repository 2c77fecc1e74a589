"""The trainer of the command line: ``fit``, ``search``, ``validate``, ``test`` and ``predict``."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.utilities.model_helpers import is_overridden

from recon.conflict.severity import DEFAULT_SEVERITY
from recon.errors import number_of
from recon.files.atomic import check_writable, remove_leftovers
from recon.training.callbacks import ConflictCallback
from recon.training.live_view import LiveView
from recon.training.module import MultiTaskModule
from recon.training.predictions import PredictionFiles, check_new
from recon.training.refusals import refuse_unsupported
from recon.training.resuming import checkpoint_file, how_to_go_on, refuse_search
from recon.training.run_folder import tell
from recon.training.searching.conflict import ConflictSearch
from recon.training.searching.module import BranchSearch
from recon.training.searching.options import BMTASOptions
from recon.training.searching.proxy import Proxy
from recon.training.searching.stopping import StopOptions


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
        by: Literal["conflict", "bmtas"] = "conflict",
        tree_path: str = "task_tree.json",
        bmtas: BMTASOptions | None = None,
        stop: StopOptions | None = None,
        proxy: Proxy | None = None,
    ) -> None:
        """Train as ``fit`` does while observing conflicts, and write the conflict map.

        By ``bmtas``, search instead for the stages that tasks share, and write the task tree.

        Args:
            model: The network to search.
            datamodule: Its data.
            map_path: Where the conflict map is written, after each epoch.
            every: Observe each n-th step.
            ckpt_path: Go on from this checkpoint, a file; ``last`` for the newest of the runs
                beside this one.
            by: Whether to search for layers by ``conflict``, or for a task tree by ``bmtas``.
            tree_path: Where the task tree is written, after each epoch.
            bmtas: The settings of the search for a task tree.
            stop: When a search for conflict layers ends, before the training does.
            proxy: A narrow network with the same layers, which is trained in place of the model;
                the map is for the model.
        """
        if by == "bmtas":
            if stop is not None or proxy is not None:
                raise ValueError("stop and proxy are of a search for conflict layers; leave them out with --by bmtas")
            self._search_tree(model, datamodule, tree_path, bmtas, ckpt_path)
            return
        if bmtas is not None:
            raise ValueError("the settings bmtas are of a search for a task tree; give --by bmtas too")
        if self._observes:
            raise ValueError("the configuration has a ConflictCallback already; run `recon fit`, or take it out")
        _prepare_file(map_path, "--map_path", "the conflict map")
        trained, network = model, None
        if proxy is not None:
            assert isinstance(model, MultiTaskModule)
            proxy.check_same_layers(model)
            trained, network = proxy.module, model
        search = ConflictSearch(every, map_path, stop, proxy, network)
        self.callbacks.insert(0, search)
        if self.loggers:
            self.callbacks.insert(1, LiveView(DEFAULT_SEVERITY if stop is None else stop.stable.severity))
        self.fit(trained, datamodule=datamodule, ckpt_path=ckpt_path)
        if self.is_global_zero:
            print("\n".join(filter(None, (search.report(), f"conflict map: {map_path}"))))

    def _search_tree(
        self,
        model: pl.LightningModule,
        datamodule: pl.LightningDataModule | None,
        path: str,
        options: BMTASOptions | None,
        ckpt_path: str | None,
    ) -> None:
        """Search for a task tree by BMTAS."""
        assert isinstance(model, MultiTaskModule) and datamodule is not None
        if options is None:
            raise ValueError("a search by bmtas needs the stages of the backbone; give --bmtas.stages [NAME,...]")
        if self._observes:
            raise ValueError("a search by bmtas observes no conflicts; take the ConflictCallback out")
        if self.world_size > 1:
            raise ValueError(f"a search by bmtas runs on one device, and devices={self.world_size}; give devices=1")
        _prepare_file(path, "--tree_path", "the task tree")
        search = BranchSearch(model, options, path)
        datamodule.train_dataloader = partial(search.batches, datamodule.train_dataloader)  # type: ignore[method-assign]
        self.fit(search, datamodule=datamodule, ckpt_path=ckpt_path)
        tree = search.tree()
        certainties = ", ".join(f"{stage.name} {stage.certainty:.2f}" for stage in tree.stages)
        print(f"{tree}\nprobability of the least certain choice: {certainties}\ntask tree: {path}")

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
        numbers = dict.fromkeys(files.samples.values()) or (0,)
        print(f"predictions of {' and '.join(number_of(each, 'sample') for each in numbers)}: {folder}")

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


def _prepare_file(path: str, option: str, what: str) -> None:
    """Refuse a path that no file can be written to, and remove half-written ones beside it."""
    if not path or Path(path).is_dir():
        raise ValueError(f"{option} {path!r} is no file; give one to write {what} to")
    check_writable(Path(path), option)
    if Path(path).parent.is_dir():
        remove_leftovers(Path(path).parent)


def _test_set(data: pl.LightningDataModule) -> Any:
    """The test set of data that may know the stage ``test`` but not ``predict``."""
    data.setup("test")
    return data.test_dataloader()
