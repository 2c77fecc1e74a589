"""Task gradients: the Jacobian of K tasks in the shared parameters, and the Gramian of each layer.

One backward a task fills one row of a flat (K, P) buffer; each layer is a slice of its columns. The
Gramian of the whole is the sum over the layers, so the same matrix products serve the method and
the conflict analyzer.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from recon.gradients.layout import Layout, as_real
from recon.gradients.reached import Reached

_CHUNK, _FEWEST_CHUNKS = 4096, 64  # shorter rows gain nothing
_LARGE = 1 << 15  # numbers; the call of a hook for fewer costs more than their memory is worth


class TaskGradients(Layout):
    """Gradients of K tasks in the shared parameters, in one flat (K, P) buffer of real numbers.

    The buffer is allocated once, on the device of the parameters, in their precision but in float32
    at least. Sparse gradients (``nn.Embedding(sparse=True)``) become dense here; the update of a
    parameter is sparse if all its gradients are.

    Args:
        layers: Layer name -> parameters, as :func:`shared_layers` gives them; none if all is
            frozen.
        tasks: K, the number of rows.
        width: Number of columns to allocate, P at least; those beyond P stay zero. P by default.

    Attributes:
        rows: (K, width), the memory of the rows.
        columns: The columns of the Jacobian that are held here: all.

    Raises:
        ValueError: The parameters are on several devices.

    Example:
        >>> network = nn.Linear(2, 1, bias=False)
        >>> gradients = TaskGradients({"fc": [network.weight]}, tasks=2)
        >>> for row, batch in enumerate([torch.tensor([[1.0, 0.0]]), torch.tensor([[-2.0, 3.0]])]):
        ...     network(batch).sum().backward()
        ...     gradients.fill_row(row)
        >>> gradients.jacobian
        tensor([[ 1.,  0.],
                [-2.,  3.]])
        >>> gradients.layer_gramians()
        tensor([[[ 1., -2.],
                 [-2., 13.]]])
        >>> gradients.add_to_grad(gradients.jacobian.sum(0))
        >>> network.weight.grad
        tensor([[-1.,  3.]])
    """

    def __init__(self, layers: Mapping[str, Sequence[nn.Parameter]], tasks: int, width: int | None = None) -> None:
        super().__init__(layers)
        self.rows = torch.zeros(tasks, self.size if width is None else width, dtype=self.dtype, device=self.device)
        self.columns = slice(0, self.size)
        self._kept = tasks
        self._views = [self.real_views(row[: self.size]) for row in self.rows]
        # The slices of the buffer that hold a gradient: the others are zero and need no work.
        self._reached = [Reached.nothing(len(self.parameters)) for _ in range(tasks)]
        self._moved: set[int] = set()  # indices of the parameters whose gradients a hook has moved

    @property
    def jacobian(self) -> Tensor:
        """(K', P): one row for each task of the step, zero where a loss does not reach."""
        return self.rows[: self._kept, : self.size]

    def hold_rows(self) -> None:
        """Prepare for rows that are added to over several backwards."""

    @contextmanager
    def moving_to(self, row: int) -> Iterator[None]:
        """Move large gradients of a ``with`` block into a row one by one, as a backward makes them.

        So they never stand beside the row all together. :meth:`fill_row` comes next.
        """
        self._moved.clear()
        hooks = [
            parameter.register_post_accumulate_grad_hook(partial(self._move, row, index))
            for index, parameter in enumerate(self.parameters)
            if parameter.numel() >= _LARGE
        ]
        try:
            yield
        except Exception:
            self._moved.clear()  # the next row is filled without them
            raise
        finally:
            for hook in hooks:
                hook.remove()

    def _move(self, row: int, index: int, parameter: Tensor) -> None:
        gradient, reached, view = parameter.grad, self._reached[row], self._views[row][index]
        assert gradient is not None
        dense = as_real(gradient.to_dense() if gradient.is_sparse else gradient)
        if index in self._moved:  # a nested backward, of an activation checkpoint, adds to the first
            view.add_(dense)
        else:
            view.copy_(dense)
        reached.sparse[index] = gradient.is_sparse and (reached.sparse[index] or index not in self._moved)
        reached.some[index] = True
        self._moved.add(index)
        parameter.grad = None

    def fill_row(self, row: int) -> None:
        """Move ``.grad`` of the shared parameters into a row."""
        sources, targets, stale = [], [], []
        reached = self._reached[row]
        for index, (parameter, view) in enumerate(zip(self.parameters, self._views[row], strict=True)):
            gradient = parameter.grad
            if gradient is not None:
                reached.sparse[index] = gradient.is_sparse
                sources.append(as_real(gradient.to_dense() if gradient.is_sparse else gradient))
                targets.append(view)
                parameter.grad = None
            elif index not in self._moved and reached.some[index]:
                stale.append(view)
            reached.some[index] = gradient is not None or index in self._moved
        self._moved.clear()
        if sources:
            torch._foreach_copy_(targets, sources)
        if stale:
            torch._foreach_zero_(stale)

    def add_row(self, row: int) -> None:
        """Add ``.grad`` of the shared parameters to a row, and take it away."""
        sources, targets = [], []
        reached = self._reached[row]
        for index, (parameter, view) in enumerate(zip(self.parameters, self._views[row], strict=True)):
            gradient = parameter.grad
            if gradient is not None:
                reached.sparse[index] = gradient.is_sparse and (reached.sparse[index] or not reached.some[index])
                reached.some[index] = True
                sources.append(as_real(gradient.to_dense() if gradient.is_sparse else gradient).to(view.dtype))
                targets.append(view)
                parameter.grad = None
        if sources:
            torch._foreach_add_(targets, sources)

    def fill_row_with_change(self, row: int) -> None:
        """Move ``.grad``, less the row's value so far, into a row."""
        before, reached = self.rows[row].clone(), self._reached[row].copy()
        self.fill_row(row)
        self.rows[row].sub_(before)
        reached.add(self._reached[row])
        self._reached[row] = reached

    def scale_row(self, row: int, factor: float) -> None:
        """Multiply a row by a number."""
        self.rows[row].mul_(factor)

    def send_row(self, row: int) -> None:
        """Hand a finished row to the other processes; here there are none."""

    def complete(self, present: Sequence[int]) -> None:
        """Take the rows of the tasks of this step, in their order, as the Jacobian."""
        for place, row in enumerate(present):
            if place != row:
                self.rows[place].copy_(self.rows[row])
                self._reached[place] = self._reached[row].copy()
        self._kept = len(present)

    def layer_gramians(self) -> Tensor:
        """Inner products of the task gradients by layer: (L, K', K'), symmetric, on the device.

        They are in the buffer's precision: in float32, norms between 1e-19 and 1e19 have a square.
        """
        return gramians_of_slices(self.jacobian, list(self.slices.values()))

    def sum_over_columns(self, products: Tensor) -> Tensor:
        """A sum over the columns held here, as the sum over all columns."""
        return products

    def combination(self, weights: Tensor) -> list[Tensor]:
        """Sum of the rows, by weights (K',), of the columns held here; in parts on a CPU."""
        if self.device.type != "cpu":
            return [weights @ self.jacobian]
        return [weights @ self.jacobian[:, columns] for columns in self.columns_at_once]

    def norm(self, *update: Tensor) -> Tensor:
        """Length of an update of the columns held here, as that over all columns."""
        lengths = [torch.linalg.vector_norm(part) for part in update]
        return lengths[0] if len(lengths) == 1 else torch.linalg.vector_norm(torch.stack(lengths))

    def add_to_grad(self, *update: Tensor) -> None:
        """Add an update (P,) to ``.grad`` of the parameters that a task reached.

        Args:
            *update: The update, whole or in the parts of :meth:`combination`.
        """
        self.add_where(Reached.union(self._reached[: self._kept], len(self.parameters)), *update)

    def reached_by(self, row: int) -> Reached:
        """The parameters that a row reaches."""
        return self._reached[row]


def gramians_of_slices(rows: Tensor, slices: Sequence[slice]) -> Tensor:
    """Inner products of rows (K, N) in slices of their columns: (L, K, K)."""
    gramians = rows.new_empty(len(slices), len(rows), len(rows))
    for gramian, columns in zip(gramians, slices, strict=True):
        _write_gramian(rows[:, columns], gramian)
    return gramians


def _write_gramian(block: Tensor, gramian: Tensor) -> None:
    """Inner products of rows (K, n), which are summed over chunks of long rows.

    The chunks of a few rows stay in the cache of a CPU. Their sums round off less than one long
    sum.
    """
    chunks, rest = divmod(block.shape[1], _CHUNK)
    if chunks < _FEWEST_CHUNKS:
        torch.mm(block, block.T, out=gramian)
        return
    chunked = block[:, : chunks * _CHUNK].unflatten(1, (chunks, _CHUNK)).transpose(0, 1)
    torch.sum(torch.bmm(chunked, chunked.mT), 0, out=gramian)
    if rest:
        last = block[:, -rest:]
        gramian.addmm_(last, last.T)
