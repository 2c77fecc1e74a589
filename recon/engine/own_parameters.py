"""The parameters of the tasks' own, in an order that all processes share."""

from collections.abc import Iterable, Sequence
from zlib import crc32

from torch import Tensor


class OwnParameters:
    """The parameters outside the shared layers, as far as they are known.

    A process that lacks a task never meets its head in a graph. It knows the parameters that it was
    told of, and those of tasks that it has seen.

    Args:
        shared: The shared parameters, which are no task's own.

    Example:
        >>> import torch
        >>> head = torch.nn.Linear(2, 1)
        >>> own = OwnParameters(shared=[])
        >>> own.declare(head.parameters())
        >>> [tuple(leaf.shape) for leaf in own.of([0])]
        [(1, 2), (1,)]
    """

    def __init__(self, shared: Iterable[Tensor]) -> None:
        self._shared = set(shared)
        self._declared: dict[Tensor, None] = {}
        self._complete = False
        self._learned: dict[int, dict[Tensor, None]] = {}

    def declare(self, parameters: Iterable[Tensor], complete: bool = True) -> None:
        """Record parameters that may belong to any task.

        Args:
            parameters: The parameters; shared ones among them do not count.
            complete: Whether no task has others.
        """
        self._declared.update(dict.fromkeys(leaf for leaf in parameters if leaf not in self._shared))
        self._complete = self._complete or complete

    def learn(self, task: int, leaves: Sequence[Tensor]) -> None:
        """Record the leaves that a task's loss reaches."""
        own = self._learned.setdefault(task, {})
        own.update(dict.fromkeys(leaf for leaf in leaves if leaf not in self._declared))

    def learned(self, task: int) -> list[Tensor]:
        """The parameters that a task's losses have reached, without those told of."""
        return [*self._learned.get(task, {})]

    def of(self, tasks: Iterable[int]) -> list[Tensor]:
        """The parameters that the losses of tasks may reach, each once."""
        learned = [leaf for task in tasks for leaf in self._learned.get(task, {})]
        return [*dict.fromkeys([*self._declared, *learned])]

    def fingerprint(self, task: int) -> int:
        """A number that tells whether two processes know the same parameters of a task; 0 for none.

        Shapes stand for parameters, since they have no names here.
        """
        if not self._complete and task not in self._learned:
            return 0
        shapes = [[tuple(leaf.shape) for leaf in leaves] for leaves in (self._declared, self._learned.get(task, {}))]
        return crc32(repr(shapes).encode()) + 1
