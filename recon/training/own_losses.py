"""The task losses of a LightningModule that Recon did not write, and the watch over them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from recon.engine.aside import leaving_no_trace
from recon.engine.watching import Watch
from recon.training.both_lightnings import is_lightnings
from recon.training.shared_paths import parts_of

Hook = str | Callable[[Any, Any], Mapping[str, Tensor]]
"""Name of a method ``batch -> {task: loss}``, or a function ``(module, batch) -> {task: loss}``."""


class OwnLosses:
    """Watches the task losses of a module's training steps.

    Losses that the training step itself computes by the named method are taken as they are, and
    cost no forward pass. Otherwise the hook runs once more, and leaves no trace.

    Args:
        module: The module.
        shared: Path of its shared part, such as ``"net"``; or of several.
        hook: Where the losses come from.
        every: Observe each n-th optimizer step.
        tasks: Names of the tasks; ``None`` for those of the first losses.

    Raises:
        ValueError: The module has no such part.
        TypeError: It has no such method.
    """

    def __init__(
        self,
        module: pl.LightningModule,
        shared: str | Sequence[str],
        hook: Hook,
        every: int,
        tasks: Sequence[str] | None,
    ) -> None:
        self._module, self._hook, self._every = module, hook, every
        self._shared = parts_of(module, shared)
        self._tasks = None if tasks is None else list(tasks)
        self._batch: Any = None
        self._recorded: Any = None
        self._waits = False  # for the end of the step
        if isinstance(hook, str) and not callable(getattr(module, hook, None)):
            raise TypeError(
                f"{type(module).__name__} has no method {hook!r}; write {hook}(self, batch) that returns "
                "{task: loss}, or name another one: ConflictCallback(losses='...')"
            )
        self.watch: Watch | None = None

    def begin_batch(self, batch: Any) -> None:
        """Listen to the losses of a batch, if its step is observed."""
        if self.watch is not None and not self.watch.observes():
            self._waits = True
            return
        self._batch = batch
        if isinstance(self._hook, str):
            vars(self._module)[self._hook] = self._recording(getattr(self._module, self._hook))

    def end_batch(self) -> None:
        """Listen no more."""
        self._batch = self._recorded = None
        if isinstance(self._hook, str):
            vars(self._module).pop(self._hook, None)

    def take(self, trainer: pl.Trainer) -> None:
        """Watch the losses of the batch at hand, before their backward; once a batch."""
        if self._batch is None:
            return
        losses, batch = self._recorded, self._batch
        self.end_batch()
        if losses is None:
            losses = self._evaluated(trainer, batch)
        self._check(losses)
        if self.watch is None:
            self.prepare(trainer, list(losses) if self._tasks is None else self._tasks)
        assert self.watch is not None
        self.watch.accumulate(losses)
        self._waits = True

    def end_step(self) -> None:
        """End the optimizer step, of one batch or several."""
        if self._waits and self.watch is not None:
            self.watch({})
            self._waits = False

    def prepare(self, trainer: pl.Trainer, tasks: Sequence[str]) -> Watch:
        """Make the watch of these tasks."""
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        self.watch = Watch(self._shared, tasks, self._every, scaler=scaler)
        return self.watch

    def _recording(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def record(*args: Any, **kwargs: Any) -> Any:
            self._recorded = losses = method(*args, **kwargs)
            return losses

        return record

    def _evaluated(self, trainer: pl.Trainer, batch: Any) -> Any:
        """The losses by one more forward pass; what it logs is dropped."""
        module = self._module
        silent = vars(module).setdefault("log", lambda *args, **kwargs: None)
        try:
            with (
                leaving_no_trace([module], module.device),
                trainer.precision_plugin.train_step_context(),
                torch.enable_grad(),
            ):
                if isinstance(self._hook, str):
                    return getattr(module, self._hook)(batch)
                return self._hook(module, batch)
        finally:
            if vars(module).get("log") is silent:
                del vars(module)["log"]

    def _check(self, losses: Any) -> None:
        """Refuse what are no task losses, in one line."""
        if isinstance(losses, Mapping) and losses:
            return
        name = type(self._module).__name__
        hook = f"{name}.{self._hook}" if isinstance(self._hook, str) else getattr(self._hook, "__name__", "the hook")
        given = "no losses" if isinstance(losses, Mapping) else f"{type(losses).__name__}, and no losses"
        raise TypeError(f"{hook} returned {given}; let it return {{task: scalar loss}}, as {{'seg': loss_of_seg, ...}}")


def check_can_be_watched(trainer: pl.Trainer) -> None:
    """Refuse a strategy that divides layers among devices.

    Raises:
        ValueError: It is none of one device or of DDP.
    """
    strategy = trainer.strategy
    whole = is_lightnings(strategy, "SingleDeviceStrategy", "DDPStrategy")
    if not whole or is_lightnings(strategy, "DeepSpeedStrategy"):  # a subclass of DDP's
        raise ValueError(
            f"{type(strategy).__name__}: ConflictCallback needs whole layers in each process; train on one "
            "device or with strategy='ddp'"
        )
