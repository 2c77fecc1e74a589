"""Search for the first step with a value that was not finite, without a host transfer a step."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from recon.errors import NotFinite
from recon.gradients.graph import total_norm

INTERVAL = 100
"""Steps between two looks at values on an accelerator."""


class FiniteWatch:
    """The first step at which each watched value was NaN or infinite.

    Values on the CPU are looked at in every step. On an accelerator a look would stall the step:
    there each value notes its first bad step on the device, and the notes are read every
    :data:`INTERVAL` steps and by :meth:`check`. The named step is exact.

    Args:
        names: Names of the values, in the words of the error.

    Example:
        >>> watch = FiniteWatch(["the loss of 'a'", "the loss of 'b'"])
        >>> watch.watch(0, torch.tensor([1.0, 2.0]))
        >>> watch.watch(1, torch.tensor([1.0, float("nan")]))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        recon.errors.NotFinite: the loss of 'b' is not finite in step 1; lower the learning ...
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self._first: Tensor | None = None

    def watch(self, step: int, values: Tensor) -> None:
        """Note the values (N,) of a step; N is the number of names.

        Raises:
            ValueError: One was not finite; the error names it and the step.
        """
        if values.device.type == "cpu":
            for name, value in zip(self.names, values.tolist(), strict=True):
                if not math.isfinite(value):
                    raise _not_finite(name, step)
            return
        if self._first is None or self._first.device != values.device:
            self._first = torch.full((len(self.names),), -1, dtype=torch.int64, device=values.device)
        bad = ~values.detach().isfinite() & (self._first < 0)
        self._first.masked_fill_(bad, step)
        if (step + 1) % INTERVAL == 0:
            self.check()

    def check(self) -> None:
        """Raise if a value has not been finite; the notes then begin anew.

        Raises:
            ValueError: One was not; the error names it and its first bad step.
        """
        if self._first is None:
            return
        for name, step in zip(self.names, self._first.tolist(), strict=True):
            if step >= 0:
                self._first.fill_(-1)
                raise _not_finite(name, step)


def _not_finite(name: str, step: int) -> NotFinite:
    return NotFinite(
        f"{name} is not finite in step {step}; lower the learning rate, or look at this task's loss and data"
    )


class StepWatches:
    """The watched values of an engine: losses, task gradients, update, and gradient of a sum.

    Args:
        tasks: Names of the tasks.
        method: Name of the method, for the error.
    """

    def __init__(self, tasks: Sequence[str], method: str) -> None:
        self.losses = FiniteWatch([f"the loss of task {task!r}" for task in tasks])
        self.gradients = FiniteWatch([f"the gradient of task {task!r}" for task in tasks])
        self.update = FiniteWatch([f"the update of {method}"])
        self.sum = FiniteWatch([f"the gradient of the summed loss of tasks {', '.join(tasks)}"])

    def watch_gradients(self, step: int, layer_gramians: Tensor) -> None:
        """Note the squared norms of task gradients, diagonals of (L, K, K) layer Gramians."""
        self.gradients.watch(step, layer_gramians.diagonal(dim1=1, dim2=2).sum(0))

    def watch_update(self, step: int, update: Tensor) -> None:
        """Note the norm of an update (P,)."""
        self.update.watch(step, torch.linalg.vector_norm(update).reshape(1))

    def watch_sum(self, step: int, parameters: Sequence[Tensor]) -> None:
        """Note the norm of ``.grad`` of the shared parameters."""
        gradients = [p.grad for p in parameters if p.grad is not None]
        self.sum.watch(step, total_norm(gradients).reshape(1))

    def check(self) -> None:
        """Raise if one of them has not been finite."""
        for watch in (self.losses, self.gradients, self.update, self.sum):
            watch.check()
