"""Task gradients of several processes: each holds a part of the columns, or all of them.

The rows are sums over the processes. A row is sent while the backward of the next task runs.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from recon.gradients.buffer import TaskGradients, gramians_of_slices
from recon.gradients.layout import Layout
from recon.gradients.precision import widest_dtype
from recon.gradients.processes import Processes, Work
from recon.gradients.reached import Reached


class ShardedGradients(Layout):
    """Gradients of K tasks, summed over R processes, of which each holds S = P / R columns.

    A row is reduced and scattered, at half the traffic of a sum that every process receives. The
    update of the columns held here is joined with those of the other processes.

    Args:
        layers: Layer name -> parameters, the same in all processes.
        tasks: K, the number of rows.
        processes: The processes.

    Attributes:
        columns: The columns of the Jacobian that are held here.
    """

    def __init__(self, layers: Mapping[str, Sequence[nn.Parameter]], tasks: int, processes: Processes) -> None:
        super().__init__(layers)
        self._tasks = tasks
        self._processes = processes
        self._width = -(-self.size // processes.number)
        # One row, which the tasks fill in turn.
        self._whole = TaskGradients(layers, 1, self._width * processes.number)
        self._shards = self._whole.rows.new_zeros(tasks, self._width)
        self._sending: dict[int, Work | None] = {}
        self._reached = [Reached.nothing(len(self.parameters)) for _ in range(tasks)]
        self._all_reached = Reached.nothing(len(self.parameters))
        self._kept = tasks
        first = min(processes.rank * self._width, self.size)
        self.columns = slice(first, min(first + self._width, self.size))

    @property
    def jacobian(self) -> Tensor:
        """(K', S'): the columns held here, one row for each task of the step."""
        return self._shards[: self._kept, : self.columns.stop - self.columns.start]

    def hold_rows(self) -> None:
        """Prepare for rows that are added to over several backwards: hold all their columns."""
        if len(self._whole.rows) < self._tasks:
            self._wait()
            self._whole = TaskGradients(self.by_layer, self._tasks, self._whole.rows.shape[1])

    def moving_to(self, row: int) -> AbstractContextManager[None]:
        """Leave gradients of a ``with`` block where they are: an earlier row may be on its way."""
        return nullcontext()

    def fill_row(self, row: int) -> None:
        """Move ``.grad`` of the shared parameters into a row of this process."""
        place = self._place(row)
        self._wait_for(place)
        self._whole.fill_row(place)

    def add_row(self, row: int) -> None:
        """Add ``.grad`` of the shared parameters to a row of this process, and take it away."""
        self._whole.add_row(self._place(row))

    def scale_row(self, row: int, factor: float) -> None:
        """Multiply a row of this process by a number."""
        self._whole.scale_row(self._place(row), factor)

    def send_row(self, row: int) -> None:
        """Begin to sum a finished row over the processes."""
        place = self._place(row)
        self._reached[row] = self._whole.reached_by(place).copy()
        self._sending[place] = self._processes.begin_shard_sum(self._whole.rows[place], self._shards[row])

    def complete(self, present: Sequence[int]) -> None:
        """Take the rows of the tasks of this step, in their order, as the Jacobian."""
        reached = Reached.union((self._reached[row] for row in present), len(self.parameters))
        self._all_reached = reached.over(self._processes, self.device)
        self._wait()
        for place, row in enumerate(present):
            if place != row:
                self._shards[place].copy_(self._shards[row])
        self._kept = len(present)

    def layer_gramians(self) -> Tensor:
        """Inner products of the task gradients by layer: (L, K', K'), symmetric, on the device."""
        own = [self._here(columns) for columns in self.slices.values()]
        return self.sum_over_columns(gramians_of_slices(self._shards[: self._kept], own))

    def sum_over_columns(self, products: Tensor) -> Tensor:
        """A sum over the columns held here, as the sum over all columns."""
        return self._processes.sum(products)

    def combination(self, weights: Tensor) -> list[Tensor]:
        """Sum of the rows, by weights (K',), of the columns held here, as one part."""
        return [weights @ self.jacobian]

    def norm(self, update: Tensor) -> Tensor:
        """Length of an update of the columns held here, as that over all columns."""
        square = torch.linalg.vector_norm(update, dtype=widest_dtype(update.device)).square()
        return self.sum_over_columns(square).sqrt()

    def add_to_grad(self, update: Tensor) -> None:
        """Add an update to ``.grad`` of the parameters; each process gives the columns it holds."""
        padded = nn.functional.pad(update, (0, self._width - len(update)))
        self.add_where(self._all_reached, self._processes.join(padded)[: self.size])

    def _here(self, columns: slice) -> slice:
        """The part of some columns that is held here, counted from the first column held here."""
        first, last = (min(max(end - self.columns.start, 0), self._width) for end in (columns.start, columns.stop))
        return slice(first, last)

    def _place(self, row: int) -> int:
        return row if len(self._whole.rows) == self._tasks else 0

    def _wait_for(self, place: int) -> None:
        work = self._sending.pop(place, None)
        if work is not None:
            work.wait()

    def _wait(self) -> None:
        for place in [*self._sending]:
            self._wait_for(place)


class SummedGradients(TaskGradients):
    """Gradients of K tasks, summed over the processes, of which each holds all (K, P).

    Methods that need whole rows take these.

    Args:
        layers: Layer name -> parameters, the same in all processes.
        tasks: K, the number of rows.
        processes: The processes.
    """

    def __init__(self, layers: Mapping[str, Sequence[nn.Parameter]], tasks: int, processes: Processes) -> None:
        super().__init__(layers, tasks)
        self._processes = processes
        self._sending: list[Work | None] = []
        self._all_reached = Reached.nothing(len(self.parameters))

    def send_row(self, row: int) -> None:
        """Begin to sum a finished row over the processes."""
        self._sending.append(self._processes.begin_sum(self.rows[row]))

    def complete(self, present: Sequence[int]) -> None:
        """Take the rows of the tasks of this step, in their order, as the Jacobian."""
        for work in self._sending:
            if work is not None:
                work.wait()
        self._sending.clear()
        reached = Reached.union((self.reached_by(row) for row in present), len(self.parameters))
        self._all_reached = reached.over(self._processes, self.device)
        for row in present:  # it holds gradients of other processes too
            self._reached[row] = self._all_reached.copy()
        super().complete(present)

    def add_to_grad(self, *update: Tensor) -> None:
        """Add an update (P,) to ``.grad`` of the parameters that a task reached in some process."""
        self.add_where(self._all_reached, *update)


Gradients = TaskGradients | ShardedGradients
"""Task gradients of one process, or of several."""


def gradients_for(
    layers: Mapping[str, Sequence[nn.Parameter]], tasks: int, processes: Processes, whole_rows: bool
) -> Gradients:
    """The buffer of task gradients for a number of processes.

    Args:
        layers: Layer name -> parameters.
        tasks: K.
        processes: The processes that take part.
        whole_rows: Whether the method needs whole rows.
    """
    if not processes.several:
        return TaskGradients(layers, tasks)
    return (SummedGradients if whole_rows else ShardedGradients)(layers, tasks, processes)
