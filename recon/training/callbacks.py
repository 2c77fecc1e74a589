"""The conflict analyzer as a Lightning callback."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from torch import Tensor
from torch.optim import Optimizer

from recon.conflict import ConflictAnalyzer, MeasuredMap
from recon.conflict.one_task import warn_of_layers_of_one_task
from recon.data.contract import dataset_name_of
from recon.engine.engine import Engine
from recon.methods import Method
from recon.training.module import MultiTaskModule
from recon.training.own_losses import Hook, OwnLosses, check_can_be_watched


class ConflictCallback(pl.Callback):
    """Observe conflicts while training, and keep the conflict map.

    The module is a :class:`recon.MultiTaskModule`; any LightningModule with a :class:`recon.Engine`
    among its attributes that calls its ``backward`` or ``step``; or, with ``shared``, any other
    LightningModule. Every checkpoint holds the statistics, so a resumed run neither loses nor
    repeats a step. The map is written, atomically, after each epoch from the first observed step
    on; in several processes it is of all their data, and the first process writes it.

    With ``shared``, the module trains as it always did, by automatic or manual optimisation. An
    observed step costs K more backwards, which leave ``.grad``, random numbers and running
    statistics as they are. The losses are those that ``training_step`` computes by the method
    ``losses``. If it does not call that method, the callback does: one more forward pass. In
    manual optimisation the module calls ``self.manual_backward``.

    >>> callback = ConflictCallback(every=10, path="glyphs.json")
    >>> trainer = pl.Trainer(callbacks=[callback], max_epochs=40, logger=False)
    >>> of_any_module = ConflictCallback(every=10, shared="net")  # net, and losses(batch)

    Args:
        every: Observe each n-th optimizer step.
        path: File of the conflict map; by default ``conflict_map.json`` in the trainer's root
            directory.
        shared: Path of the module's shared part, such as ``"net"`` or ``"model.encoder"``, or of
            several parts; ``None`` for modules with an engine.
        losses: Name of the method ``batch -> {task: scalar loss}`` of a module without an engine;
            or a function ``(module, batch) -> {task: scalar loss}``.
        tasks: Names of all tasks, if some batches lack labels of some; by default those of the
            first losses.

    Raises:
        TypeError: When training begins: the module has neither an engine nor such a method, or the
            method returns no losses.
        ValueError: It has several engines, one with an analyzer already, or one for a single task;
            it has no such shared part; or the strategy divides layers among devices.
    """

    def __init__(
        self,
        every: int = 1,
        path: str | None = None,
        shared: str | list[str] | None = None,
        losses: Hook = "losses",
        tasks: list[str] | None = None,
    ) -> None:
        self.every = every
        self.path = path
        self.shared, self.losses, self.tasks = shared, losses, tasks
        self.analyzer: ConflictAnalyzer | None = None
        self._own: OwnLosses | None = None
        self._saved: dict[str, Any] = {}

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        self.analyzer, self._own, self._saved = None, None, {}
        if self.shared is not None:
            check_can_be_watched(trainer)
            self._own = OwnLosses(pl_module, self.shared, self.losses, self.every, self.tasks)
        elif isinstance(pl_module, MultiTaskModule):
            self.analyzer = ConflictAnalyzer(pl_module.backbone, pl_module.task_names, self.every)
            pl_module.analyzer = self.analyzer

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if self._own is not None:
            if self._saved and self._own.watch is None:
                self._own.prepare(trainer, self._saved["tasks"])
                self._observe_by(self._own)
            self._own.begin_batch(batch)
        # Not in setup: many make their engine later, where the network is on its device.
        elif self.analyzer is None:
            engine = _only_engine(pl_module)
            if engine.analyzer is not None:
                raise ValueError(
                    f"the engine of {type(pl_module).__name__} has an analyzer already; make the engine without one, "
                    "or leave out the ConflictCallback"
                )
            _warn_of_state_left_out(engine.method, pl_module)
            self.analyzer = ConflictAnalyzer(engine.shared, engine.tasks, self.every)
            if self._saved:
                self.analyzer.load_state_dict(self._saved)
            engine.analyzer = self.analyzer

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        if self._own is not None:
            self._own.take(trainer)
            self._observe_by(self._own)

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        if self._own is not None:
            self._own.end_step()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._own is not None:
            self._own.end_batch()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        if self._own is not None:
            self._own.end_batch()

    def _observe_by(self, own: OwnLosses) -> None:
        """Keep the statistics of a watch, those of a resumed run before it included."""
        if self.analyzer is None and own.watch is not None:
            self.analyzer = own.watch.analyzer
            if self._saved:
                self.analyzer.load_state_dict(self._saved)

    def state_dict(self) -> dict[str, Any]:
        return self._saved if self.analyzer is None else self.analyzer.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._saved = state_dict
        if self.analyzer is not None and state_dict:
            self.analyzer.load_state_dict(state_dict)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # All processes have the same counts, and the first writes the map.
        if self.analyzer is not None and self._has_observed() and trainer.is_global_zero:
            cmap = self.analyzer.conflict_map(
                dataset=dataset_name_of(getattr(trainer, "datamodule", None)),
                seed=getattr(pl_module, "run_seed", None),
            )
            self.finished(cmap).save(self.map_path(trainer))

    def finished(self, cmap: MeasuredMap) -> MeasuredMap:
        """The map as it is written; searches add to its provenance."""
        return cmap

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._own is not None and self.analyzer is not None and self._has_observed() and trainer.is_global_zero:
            warn_of_layers_of_one_task(self.analyzer.conflict_map())
        if not self._has_observed() and trainer.is_global_zero:
            warnings.warn(
                f"no step was observed, and {self.map_path(trainer)} is not written: the shared part was frozen, or "
                "the engine was not called, or the losses of a module without one had no backward by Lightning",
                stacklevel=2,
            )

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Leave an engine that is not ours as it was."""
        if not isinstance(pl_module, MultiTaskModule):
            for engine in _engines(pl_module):
                if engine.analyzer is self.analyzer:
                    engine.analyzer = None

    def map_path(self, trainer: pl.Trainer) -> Path:
        """Where the conflict map is written."""
        return Path(self.path) if self.path is not None else Path(trainer.default_root_dir) / "conflict_map.json"

    def _has_observed(self) -> bool:
        return self.analyzer is not None and self.analyzer.observed_steps > 0


def _only_engine(module: pl.LightningModule) -> Engine:
    engines = _engines(module)
    if len(engines) == 1:
        return engines[0]
    name = type(module).__name__
    if not engines:
        raise TypeError(
            f"ConflictCallback found no recon.Engine among the attributes of {name}; name its shared part, as in "
            "ConflictCallback(shared='net'), with a method losses(batch) that returns {task: loss}; or make the engine "
            "before the first batch and keep it as an attribute: self.engine = recon.Engine(...)"
        )
    raise ValueError(
        f"ConflictCallback found {len(engines)} engines among the attributes of {name}, and observes one; give each an "
        "analyzer of its own instead: recon.Engine(..., analyzer=recon.ConflictAnalyzer(...))"
    )


def _warn_of_state_left_out(method: Method, module: pl.LightningModule) -> None:
    """Warn that no checkpoint holds the state of a method that only the engine holds."""
    if method.state_dict() and method not in set(module.modules()):
        name = type(module).__name__
        warnings.warn(
            f"{name}'s checkpoints lack the state of {method}, and a resumed run starts it anew; keep the method as an "
            f"attribute of {name} too: self.method = recon.create_method(...)",
            stacklevel=2,
        )


def _engines(module: pl.LightningModule) -> list[Engine]:
    """The engines among the attributes of a module and its parts, each once."""
    return list({id(engine): engine for part in module.modules() for engine in _in_values(part.__dict__)}.values())


def _in_values(attributes: dict[Any, Any]) -> Iterator[Engine]:
    for value in attributes.values():
        inside = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else [value]
        yield from (each for each in inside if isinstance(each, Engine))
