"""Find the first step at which a value was not finite, without a host transfer in every step."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

INTERVAL = 100
"""Steps between two looks at values that live on an accelerator."""


class FiniteWatch:
    """Remembers for each watched value the first step at which it was NaN or infinite.

    Values on the CPU are looked at in every step. On an accelerator a look would stall the step, so what happened is
    noted there and looked at every :data:`INTERVAL` steps, and when :meth:`check` is called; the step named is exact.

    Args:
        names: What the values are, in the words of the error.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self._first: Tensor | None = None

    def watch(self, step: int, values: Tensor) -> None:
        """Note the values (N,) of a step; N is the number of names.

        Raises:
            ValueError: One was not finite; the error names it and the step.
        """
        if self._first is None or self._first.device != values.device:
            self._first = torch.full((len(self.names),), -1, dtype=torch.int64, device=values.device)
        bad = ~values.detach().isfinite() & (self._first < 0)
        self._first.masked_fill_(bad, step)
        if values.device.type == "cpu" or (step + 1) % INTERVAL == 0:
            self.check()

    def check(self) -> None:
        """Raise if a value has not been finite since the watch began, or since the last error, which is forgotten."""
        if self._first is None:
            return
        for name, step in zip(self.names, self._first.tolist(), strict=True):
            if step >= 0:
                self._first.fill_(-1)
                raise ValueError(
                    f"{name} is not finite in step {step}; "
                    "lower the learning rate, or look at this task's loss and data"
                )


class StepWatches:
    """What is watched in the steps of an engine.

    Args:
        tasks: The tasks' names.
        method: The method's name, for the error.
    """

    def __init__(self, tasks: Sequence[str], method: str) -> None:
        self.losses = FiniteWatch([f"the loss of task {task!r}" for task in tasks])
        self.gradients = FiniteWatch([f"the gradient of task {task!r}" for task in tasks])
        self.update = FiniteWatch([f"the update of {method}"])
        self.sum = FiniteWatch([f"the gradient of the summed loss of tasks {', '.join(tasks)}"])

    def watch_gradients(self, step: int, layer_gramians: Tensor) -> None:
        """Note the task gradients by their squared norms, the diagonals of the (L, K, K) layer Gramians."""
        self.gradients.watch(step, layer_gramians.diagonal(dim1=1, dim2=2).sum(0))

    def watch_update(self, step: int, update: Tensor) -> None:
        """Note the norm of an update (P,)."""
        self.update.watch(step, torch.linalg.vector_norm(update).reshape(1))

    def watch_sum(self, step: int, parameters: Sequence[Tensor]) -> None:
        """Note the norm of ``.grad`` of the shared parameters."""
        gradients = [p.grad for p in parameters if p.grad is not None]
        self.sum.watch(step, nn.utils.get_total_norm(gradients).reshape(1))

    def check(self) -> None:
        """Raise if one of them has not been finite."""
        for watch in (self.losses, self.gradients, self.update, self.sum):
            watch.check()
