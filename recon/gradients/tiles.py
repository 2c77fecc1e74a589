"""Exact layer Gramians in the memory of about one gradient, whatever the number of tasks.

A tile is a group of parameters and a few tasks. It holds the gradients of these tasks in these
parameters while those of the later tasks arrive one by one, are multiplied with them and leave.
Backwards run for the group's parameters alone, and not below them. Where the task gradients in one
activation are small enough to be kept, later backwards start there instead of at the losses.
:mod:`recon.gradients.tiling` chooses groups and starts that cost least. With small activations
every gradient is computed about once, so that K tasks cost K backwards; with large ones, K = 40
can cost several times that.

Ways that we tried, and left:

* One batched backward of all tasks makes activation gradients K times as large: with ten tasks,
  TorchJD's engine of this kind adds 6.6 gradients to ResNet-18 (16 images of 64x64) and 22 to
  ViT-tiny (4 of 224x224), where tiles add 0.5 and 1.3. Some operations also have no batched form;
  ours stopped in ResNet-18 at ``aten::add_``.
* Holding the whole gradient of one task after the other takes about K² / 2 backwards of the whole
  network: 54 instead of 10, 819 instead of 40.
* Forward-mode derivatives along each gradient take 2 K passes, but need the forward pass again with
  the same randomness, a forward-mode rule for each operation, and give no layer Gramians.

Every backward here leaves the graph in place. The gradients of the activations of one layer are
therefore in memory beside all activations, which joint training frees as it goes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from recon.gradients.layout import as_real
from recon.gradients.order import Bottleneck, Reach, backward_order
from recon.gradients.precision import widest_dtype
from recon.gradients.tiling import Stretch, Tiling

# Memory for tiles, in gradients of the shared part. Joint training has room for a part of one when
# its memory peaks, while most of the graph and the first gradients are there.
_GRADIENTS = 0.9
# Numbers turned to float64 at a time, so that the copy stays small.
_BLOCK = 1 << 16

TakeOwn = Callable[[int, Tensor, Tensor], None]
"""``take(task, leaf, gradient)``: receives the gradient of a leaf outside the shared layers."""


def tiled_gramians(
    losses: Sequence[Tensor], layers: Mapping[str, Sequence[nn.Parameter]], take_own: TakeOwn | None = None
) -> Tensor:
    """Inner products of the task gradients by layer, without a buffer of all gradients.

    Args:
        losses: K scalars with a graph, two at least. The graph stays.
        layers: Layer name -> shared parameters, as :func:`shared_layers` gives them.
        take_own: Receives each task's gradient in the leaves outside these layers, as soon as it is
            known; ``None`` to leave them out.

    Returns:
        (L, K, K), symmetric, on the device of the parameters, in float64 where the device has it.
        Each product is of exact float64 copies of the gradients, so nearly dependent gradients of
        lower precision are told apart.

    Raises:
        ValueError: The network is checkpointed in a way that hides parameters from the graph.

    Example:
        >>> network = nn.Linear(2, 1, bias=False)
        >>> losses = [network(torch.tensor([batch])).sum() for batch in ([1.0, 0.0], [-2.0, 3.0])]
        >>> tiled_gramians(losses, {"fc": [network.weight]})
        tensor([[[ 1., -2.],
                 [-2., 13.]]], dtype=torch.float64)
    """
    return _Tiles(losses, layers, take_own).gramians()


@dataclass(frozen=True)
class _Start:
    """A place from which backwards run: the losses, or a bottleneck with the task gradients there.

    Attributes:
        position: Operation from which they run.
        outputs: What each task's backward starts from.
        gradients: The gradient of each task there; ``None`` for a task that does not reach it.
    """

    position: int
    outputs: Sequence[Any]
    gradients: Sequence[Tensor | None]

    @property
    def size(self) -> int:
        """Bytes of the gradients."""
        return sum(gradient.nbytes for gradient in self.gradients if gradient is not None)

    def gradients_in(self, inputs: Sequence[Any], task: int) -> list[Tensor | None]:
        """The gradients of a task in leaves or edges; ``None`` where it does not reach."""
        start = self.gradients[task]
        if start is None or not inputs:
            return [None] * len(inputs)
        outputs = [self.outputs[task]]
        return list(torch.autograd.grad(outputs, inputs, [start], retain_graph=True, allow_unused=True))


class _Tiles:
    """One computation of layer Gramians, from the losses down to the first layers."""

    def __init__(
        self, losses: Sequence[Tensor], layers: Mapping[str, Sequence[nn.Parameter]], take_own: TakeOwn | None
    ) -> None:
        self._layer_of: dict[Tensor, int] = {p: index for index, own in enumerate(layers.values()) for p in own}
        self._take_own = take_own
        order = backward_order(losses)
        self._bottlenecks = order.bottlenecks
        self._waiting = [reach for reach in order.reaches if take_own is not None or reach.leaf in self._layer_of]
        gradient = sum(map(self._size, self._waiting))
        self._tiling = Tiling(len(losses), int(_GRADIENTS * gradient))
        self._start = _Start(0, losses, [torch.ones_like(loss) for loss in losses])
        self._may_stop = True
        device = next(iter(self._layer_of), losses[0]).device
        self._products = torch.zeros(len(layers), len(losses), len(losses), dtype=widest_dtype(device), device=device)

    def gramians(self) -> Tensor:
        while self._waiting:
            self._take_stretch()
        return self._products + self._products.triu(1).mT

    def _size(self, reach: Reach) -> int:
        return reach.leaf.nbytes if reach.leaf in self._layer_of else 0

    def _stretch(self, start: int) -> Stretch:
        """The leaves that wait for their gradients."""
        return Stretch([self._size(reach) for reach in self._waiting], [r.last + 1 for r in self._waiting], start)

    def _ahead(self, position: int) -> dict[int, Bottleneck]:
        return {stop.position: stop for stop in self._bottlenecks if stop.position > position}

    def _take_stretch(self) -> None:
        """Take the leaves down to the next stop, or all, in the cheapest groups."""
        stretch, tiling = self._stretch(self._start.position), self._tiling.less(self._start.size)
        end, stop = len(self._waiting), None
        ahead = self._ahead(self._start.position) if self._may_stop else {}
        if stops := self._tiling.stops(stretch, list(ahead), self._start.size):
            end, stop = stops[0][0], ahead[stops[0][1]]
            tiling = tiling.less(self._start.size or self._tiling.budget // 4)  # the likely size of the next
        first = 0
        for last in tiling.groups(stretch.part(0, end)):
            group, self._waiting = self._waiting[: last - first], self._waiting[last - first :]
            self._take_group(group, tiling, stop if last == end else None)
            first = last

    def _take_group(self, reaches: list[Reach], tiling: Tiling, stop: Bottleneck | None) -> None:
        """Multiply the task gradients in a group of leaves; at a stop keep those in its edge."""
        leaves = [reach.leaf for reach in reaches]
        size = sum(map(self._size, reaches))
        rows = {leaf: _rows(leaf, tiling.held(size)) for leaf in leaves if leaf in self._layer_of}
        kept: list[Tensor | None] = []
        for first in tiling.first_tasks(size):
            for task in range(first, tiling.tasks):
                inputs = [*rows] if first else [*leaves, *([stop.edge] if stop else [])]
                gradients = self._start.gradients_in(inputs, task)
                if stop and not first:
                    kept.append(gradients.pop())
                    if not self._keeps(stop, kept):
                        self._may_stop, stop, kept = False, None, []
                self._arrive(dict(zip(rows if first else leaves, gradients, strict=True)), rows, first, task)
                del gradients  # before the next ones are there
        if stop:
            self._start = _Start(stop.position, [stop.edge] * tiling.tasks, kept)

    def _keeps(self, stop: Bottleneck, gradients: list[Tensor | None]) -> bool:
        """Whether backwards start again from a stop, after each gradient that arrived there."""
        *earlier, gradient = gradients
        if gradient is None:
            return True
        if any(other is not None for other in earlier):  # all are of one size
            return not _is_changed_by_hooks(stop, gradient)
        onward = self._tiling.less(self._start.size).cost(self._stretch(self._start.position))
        size, ahead = self._tiling.tasks * gradient.nbytes, list(self._ahead(stop.position))
        anew = self._tiling.cost_with_stops(self._stretch(stop.position), ahead, size)
        return anew < onward and not _is_changed_by_hooks(stop, gradient)

    def _arrive(
        self, gradients: dict[Tensor, Tensor | None], rows: dict[Tensor, Tensor], first: int, task: int
    ) -> None:
        """Multiply a task's gradients with those that a tile holds; hold them where it has room."""
        for leaf, gradient in gradients.items():
            if leaf in rows:
                self._multiply(self._products[self._layer_of[leaf]], rows[leaf], gradient, first, task)
            elif gradient is not None and self._take_own is not None:
                self._take_own(task, leaf, gradient)

    def _multiply(self, products: Tensor, rows: Tensor, gradient: Tensor | None, first: int, task: int) -> None:
        row = task - first
        if gradient is None:
            rows[row : row + 1] = 0
            return
        numbers = as_real(gradient.to_dense() if gradient.is_sparse else gradient).reshape(-1)
        if not first:
            products[task, task] += _inner_products(numbers[None], numbers)[0]
        if filled := min(row, len(rows)):
            products[first : first + filled, task] += _inner_products(rows[:filled], numbers)
        rows[row : row + 1] = numbers


def _rows(parameter: Tensor, count: int) -> Tensor:
    numbers = as_real(parameter.detach())
    return numbers.new_empty(count, numbers.numel())


def _inner_products(rows: Tensor, vector: Tensor) -> Tensor:
    """Products (N,) of rows (N, P) with a vector (P,), in float64 where the device has it."""
    dtype = widest_dtype(vector.device)
    total = torch.zeros(len(rows), dtype=dtype, device=vector.device)
    columns = max(1, _BLOCK // len(rows))
    for block, part in zip(rows.split(columns, dim=1), vector.split(columns), strict=True):
        total += block.to(dtype) @ part.to(dtype)
    return total


def _is_changed_by_hooks(stop: Bottleneck, gradient: Tensor) -> bool:
    """Whether hooks on a tensor, which have run on its gradient, would change it once more."""
    (again,) = torch.autograd.grad([stop.edge], [stop.edge], [gradient], retain_graph=True)
    return again.data_ptr() != gradient.data_ptr()
