"""The tasks of one step, where others have no loss: a method shows their part of its state alone.

A method holds rows, one per task: buffers, learned numbers, hyperparameters. In a block of
:func:`only_present` it holds the rows of the present tasks. At the end of the block these rows go
back to their places. The rows of absent tasks stand still.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, Protocol

import torch
from torch import Tensor, nn

Present = tuple[int, ...]
"""Indices of the present tasks, ascending."""


class TaskRows(Protocol):
    """A part of a method that has one row per task."""

    def narrow(self, present: Present) -> None:
        """Show the rows of the present tasks alone."""

    def widen(self, keep: bool) -> None:
        """Show all rows again.

        Args:
            keep: Whether changes since :meth:`narrow` stay; ``False`` after an error.
        """


class Holder(Protocol):
    """A method, as far as this module knows it."""

    _present: Present | None

    def task_rows(self) -> Sequence[TaskRows]:
        """Its parts that have one row per task."""


@contextmanager
def only_present(holders: Sequence[Holder], present: Present) -> Iterator[None]:
    """Show the rows of the present tasks alone, for a ``with`` block.

    Args:
        holders: A method and all methods inside it.
        present: The present tasks.
    """
    rows = [each for holder in holders for each in holder.task_rows()]
    before = [holder._present for holder in holders]
    for holder in holders:
        holder._present = present
    for each in rows:
        each.narrow(present)
    keep = False
    try:
        yield
        keep = True
    finally:
        for each in rows:
            each.widen(keep)
        for holder, earlier in zip(holders, before, strict=True):
            holder._present = earlier


def check_present(present: Sequence[int], tasks: int | None) -> Present:
    """Return the indices of the present tasks.

    Args:
        present: Indices.
        tasks: K, or ``None`` if it is not known.

    Raises:
        ValueError: There are none, they do not ascend, or one is out of range.

    Example:
        >>> check_present([0, 2], tasks=3)
        (0, 2)
    """
    indices = tuple(present)
    ascending = all(first < second for first, second in pairwise(indices))
    if not indices or indices[0] < 0 or not ascending or (tasks is not None and indices[-1] >= tasks):
        of = "" if tasks is None else f" of {tasks}"
        raise ValueError(f"present tasks must be ascending indices{of} tasks, one at least, got {list(present)}")
    return indices


class NumbersOfTasks:
    """A hyperparameter of one number per task, an attribute of its method.

    Args:
        method: The method.
        name: Name of the attribute, which may be ``None``.
    """

    def __init__(self, method: nn.Module, name: str) -> None:
        self.method, self.name = method, name

    def narrow(self, present: Present) -> None:
        self._all: Any = getattr(self.method, self.name)
        if self._all is not None:
            setattr(self.method, self.name, _rows(self._all, present))

    def widen(self, keep: bool) -> None:
        setattr(self.method, self.name, self._all)


class BufferRows:
    """A buffer whose first dimension is that of the tasks.

    Args:
        module: Owner of the buffer.
        name: Its name there.
        pairwise: Whether tasks are its second dimension too.
        grouped: Whether these dimensions come after one for groups of layers.
    """

    def __init__(self, module: nn.Module, name: str, pairwise: bool = False, grouped: bool = False) -> None:
        self.module, self.name, self.pairwise, self.grouped = module, name, pairwise, grouped

    def narrow(self, present: Present) -> None:
        self._all, self._present = self._held(), present
        self._show(_pairs(self._all, present) if self.pairwise else _rows(self._all, present))

    def widen(self, keep: bool) -> None:
        rows = self._held()
        self._show(self._with(rows) if keep else self._all)

    def _held(self) -> Tensor:
        """The buffer, tasks first."""
        buffer = self.module._buffers[self.name]
        assert buffer is not None
        return buffer.movedim(0, -1) if self.grouped else buffer

    def _show(self, tensor: Tensor) -> None:
        self.module._buffers[self.name] = tensor.movedim(-1, 0) if self.grouped else tensor

    def _with(self, rows: Tensor) -> Tensor:
        """All rows, with these of the present tasks, in their dtype and on their device."""
        everything = self._all.to(rows)
        if everything.numel() == 0:  # gradients are tracked from this step on
            everything = rows.new_zeros(len(everything), *rows.shape[1:])
        if self.pairwise:
            index = torch.tensor(self._present, device=rows.device)
            everything[index[:, None], index] = rows
        else:
            for row, task in zip(rows, self._present, strict=True):
                everything[task].copy_(row)
        return everything


class Scalar:
    """A buffer of one number for all tasks, such as a count of steps: it goes on in every step.

    Args:
        module: Owner of the buffer.
        name: Its name there.
    """

    def __init__(self, module: nn.Module, name: str) -> None:
        self.module, self.name = module, name

    def narrow(self, present: Present) -> None:
        buffer = self.module._buffers[self.name]
        assert buffer is not None
        self._before = buffer.clone()

    def widen(self, keep: bool) -> None:
        if not keep:
            self.module._buffers[self.name] = self._before


class ParameterRows:
    """A learned parameter whose first dimension is that of the tasks.

    Its gradient is zero for absent tasks, so an optimizer with momentum or weight decay moves them.
    :class:`~recon.methods.base.task_scalars.TaskScalars` stand still.

    Args:
        module: Owner of the parameter.
        name: Its name there.
    """

    def __init__(self, module: nn.Module, name: str) -> None:
        self.module, self.name = module, name

    def narrow(self, present: Present) -> None:
        self._all = self.module._parameters[self.name]
        rows: Any = _rows(self._all, present)  # no leaf: its gradient flows to the parameter
        self.module._parameters[self.name] = rows

    def widen(self, keep: bool) -> None:
        self.module._parameters[self.name] = self._all


def _rows(values: Any, present: Present) -> Any:
    """The values of the present tasks, of a tensor or a sequence."""
    if isinstance(values, Tensor):
        # A tensor of indices made from a list would wait for an accelerator.
        return torch.stack([values[task] for task in present])
    return [values[task] for task in present]


def _pairs(values: Tensor, present: Present) -> Tensor:
    index = torch.tensor(present, device=values.device)
    return values[index[:, None], index]
