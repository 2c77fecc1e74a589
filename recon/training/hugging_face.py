"""Conflict in a training by Hugging Face's ``Trainer``; imports transformers.

The trainer hands no batch to its callbacks. The losses are therefore read from the model's output,
by a hook on its forward pass, and watched before the trainer's backward.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from transformers import TrainerCallback

from recon.engine.watching import Watch
from recon.training.shared_paths import parts_of

Hook = str | Callable[[Any], Mapping[str, Tensor]]
"""Name of an item of the model's output that holds ``{task: loss}``, or ``output -> {...}``."""


class ConflictTrainerCallback(TrainerCallback):
    """Observe conflicts while Hugging Face's ``Trainer`` trains, and keep the conflict map.

    Training stays as it is; an observed step costs K more backwards. With
    ``gradient_accumulation_steps`` a step is that of all its micro-batches. The map is written
    after each epoch and at the end. A resumed run begins a new map.

    Args:
        shared: Path of the model's shared part, such as ``"encoder"``; or of several.
        losses: Item of the model's output that holds the task losses, each with its graph; or a
            function that takes them from the output.
        every: Observe each n-th step of the optimizer.
        path: File of the conflict map.
        tasks: Names of all tasks, if some batches lack labels of some; by default those of the
            first losses.

    Attributes:
        watch: The :class:`recon.engine.Watch`; ``None`` before the first losses.

    Raises:
        ValueError: When training begins: the model has no such part.
        TypeError: The output has no task losses.

    Example:
        >>> callback = ConflictTrainerCallback(shared="encoder", every=10)
        >>> callback.path
        PosixPath('conflict_map.json')
    """

    def __init__(
        self,
        shared: str | Sequence[str],
        losses: Hook = "losses",
        every: int = 1,
        path: str = "conflict_map.json",
        tasks: Sequence[str] | None = None,
    ) -> None:
        self.shared, self.losses, self.every = shared, losses, every
        self.path = Path(path)
        self.tasks = None if tasks is None else list(tasks)
        self.watch: Watch | None = None
        self._hook: Any = None
        self._waits = False

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **rest: Any) -> None:
        """Listen to the outputs of the model."""
        self.watch, self._waits = None, False
        if self._hook is not None:  # of a training that an error ended
            self._hook.remove()
        self._parts = parts_of(model, self.shared)
        self._hook = model.register_forward_hook(self._take)

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        """End the step of the micro-batches so far."""
        if self._waits and self.watch is not None:
            self.watch({})
        self._waits = False

    def on_epoch_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        """Write the map."""
        if state.is_world_process_zero and self.watch is not None and self.watch.analyzer.observed_steps:
            self.watch.map().save(self.path)

    def on_train_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        """Write the map, and listen no more."""
        self._hook.remove()
        self.on_epoch_end(args, state, control)

    def _take(self, model: nn.Module, inputs: Any, output: Any) -> None:
        if not model.training:
            return
        self._waits = True
        if self.watch is not None and not self.watch.observes():
            return
        losses = self._of(output)
        if self.watch is None:
            self.watch = Watch(self._parts, list(losses) if self.tasks is None else self.tasks, self.every)
        self.watch.accumulate(losses)

    def _of(self, output: Any) -> Mapping[str, Tensor]:
        """The task losses of an output, or an error in one line."""
        losses: Any
        if callable(self.losses):
            losses, where = self.losses(output), getattr(self.losses, "__name__", "the hook")
        else:
            losses = output.get(self.losses) if isinstance(output, Mapping) else getattr(output, self.losses, None)
            where = f"the model's output {type(output).__name__} under {self.losses!r}"
        if not isinstance(losses, Mapping) or not losses:
            given = "no losses" if losses is None or isinstance(losses, Mapping) else type(losses).__name__
            raise TypeError(
                f"{where} gives {given}; let it give {{task: scalar loss}}, as "
                "ModelOutput(loss=total, losses={'seg': loss_of_seg, ...})"
            )
        return losses
