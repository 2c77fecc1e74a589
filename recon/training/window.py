"""Accumulation in Lightning: the micro-batches that make one optimizer step together.

Lightning counts them, by ``Trainer(accumulate_grad_batches=n)``, and leaves the rest to modules
that optimise by themselves.
"""

from collections.abc import Iterable
from typing import Any

import pytorch_lightning as pl


class Window:
    """The micro-batches since the last optimizer step.

    Args:
        trainer: The trainer, during its fit.

    Attributes:
        batches: Number of the micro-batches that wait for the end of the window.
        labelled: Whether one of them has a label.
    """

    def __init__(self, trainer: pl.Trainer) -> None:
        self.batches = 0
        self.labelled = False
        self._trainer = trainer
        self._withheld: list[Any] = []
        self._loaders = self._states_of_loaders()  # before the window, of loaders that have a state

    def ends(self) -> bool:
        """Whether the batch at hand ends the window: the n-th, or the last of the epoch."""
        return not self._trainer.fit_loop._should_accumulate()

    def hold(self, labelled: bool, names: Iterable[str]) -> None:
        """Count a micro-batch that the optimizer does not step after.

        Loggers take over the latest values after each batch. Those of the last window would appear
        once more for every micro-batch.

        Args:
            labelled: Whether it has a label.
            names: Names of the values that the module logs in its steps.
        """
        self.batches += 1
        self.labelled = self.labelled or labelled
        results: Any = self._trainer._results or {}
        for name in names:
            value = results.get(f"training_step.{name}")
            if value is not None and not value.has_reset:
                value.has_reset = True
                self._withheld.append(value)

    def close(self) -> None:
        """End the window, before the module logs its step."""
        self.batches, self.labelled = 0, False
        for value in self._withheld:
            value.has_reset = False
        self._withheld = []
        self._loaders = self._states_of_loaders()

    def rewind(self, checkpoint: dict[str, Any]) -> None:
        """Let a checkpoint from within the window begin with the window's first batch.

        The gradients of its batches are not in the checkpoint.
        """
        if not self.batches:
            return
        loop = checkpoint["loops"]["fit_loop"]
        progress = loop["epoch_loop.batch_progress"]
        for counts in (progress["total"], progress["current"]):
            counts.update(dict.fromkeys(counts, counts["ready"] - self.batches))
        if self._loaders:
            loop["state_dict"]["combined_loader"] = self._loaders

    def _states_of_loaders(self) -> list[dict[str, Any]]:
        combined = self._trainer.fit_loop._combined_loader
        if self._trainer.accumulate_grad_batches == 1 or combined is None:
            return []
        return combined._state_dicts()
