"""Task gradients: the Jacobian of K tasks in the shared parameters, and the Gramian of each layer.

One backward a task fills one row of a flat (K, P) buffer; each layer is a slice of its columns. The
Gramian of the whole is the sum over the layers, so the same matrix products serve the method and
the conflict analyzer.
"""

import operator
from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from recon.gradients.graph import add_to_grad


class TaskGradients:
    """Gradients of K tasks in the shared parameters, in one flat (K, P) buffer of real numbers.

    The buffer is allocated once, on the device of the parameters, in their precision but in float32
    at least. A complex parameter takes two numbers for each of its own, the real and the imaginary
    part, so that rows have the real inner product Re <g, h>. Sparse gradients
    (``nn.Embedding(sparse=True)``) become dense here; the update of a parameter is sparse if all
    its gradients are.

    Args:
        layers: Layer name -> parameters, as :func:`shared_layers` gives them; none if all is
            frozen.
        tasks: K, the number of rows.

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

    def __init__(self, layers: Mapping[str, Sequence[nn.Parameter]], tasks: int) -> None:
        self.layers = tuple(layers)
        self.parameters = [p for parameters in layers.values() for p in parameters]
        devices = {str(p.device) for p in self.parameters}
        if len(devices) > 1:
            raise ValueError(
                f"shared parameters are on several devices ({', '.join(sorted(devices))}); move them to one"
            )
        counts = [sum(map(_numbers, parameters)) for parameters in layers.values()]
        device = self.parameters[0].device if self.parameters else None
        self.jacobian = torch.zeros(tasks, sum(counts), dtype=_buffer_dtype(self.parameters), device=device)
        """(K, P): one row a task, zero where a loss does not reach."""
        self.precision = _coarsest_dtype(self.parameters)
        """The dtype of the coarsest parameters; gradients in a finer buffer are no finer."""
        self._views = [self._real_views(row) for row in self.jacobian]
        # The slices of the buffer that hold a gradient: the others are zero and need no work.
        self._reached = [[False] * len(self.parameters) for _ in range(tasks)]
        self._sparse = [[False] * len(self.parameters) for _ in range(tasks)]
        ends = torch.tensor([0, *counts]).cumsum(0).tolist()
        self.slices = dict(zip(self.layers, (slice(a, b) for a, b in pairwise(ends)), strict=True))
        """Layer name -> its columns of the Jacobian."""

    def is_for(self, layers: Mapping[str, Sequence[nn.Parameter]]) -> bool:
        """Whether the buffer still is that of these layers, not moved, cast or unfrozen since."""
        parameters = [p for own in layers.values() for p in own]
        if len(parameters) != len(self.parameters) or not all(map(operator.is_, parameters, self.parameters)):
            return False
        device = parameters[0].device if parameters else self.jacobian.device
        held = self.jacobian.device, self.jacobian.dtype, self.precision
        return (device, _buffer_dtype(parameters), _coarsest_dtype(parameters)) == held

    def like_parameters(self, flat: Tensor) -> list[Tensor]:
        """Views of a flat (P,) tensor in the shapes of the parameters, for complex ones copies.

        Where a parameter is dense in memory, its view has its strides.
        """
        views = zip(self._real_views(flat), self.parameters, strict=True)
        return [torch.view_as_complex(view.clone()) if p.is_complex() else view for view, p in views]

    def _real_views(self, flat: Tensor) -> list[Tensor]:
        """Views as of :meth:`like_parameters`; complex parameters have a last dimension of 2."""
        views = []
        for piece, parameter in zip(flat.split([_numbers(p) for p in self.parameters]), self.parameters, strict=True):
            p = _as_real(parameter)  # for its shape and strides alone
            dense = p.is_contiguous() or torch.empty_like(p, device="meta").stride() == p.stride()
            views.append(piece.as_strided(p.shape, p.stride()) if dense else piece.view(p.shape))
        return views

    def fill_row(self, task: int) -> None:
        """Move ``.grad`` of the shared parameters into the row of a task."""
        sources, targets, stale = [], [], []
        reached, sparse = self._reached[task], self._sparse[task]
        for index, (parameter, view) in enumerate(zip(self.parameters, self._views[task], strict=True)):
            gradient = parameter.grad
            if gradient is not None:
                sparse[index] = gradient.is_sparse
                sources.append(_as_real(gradient.to_dense() if sparse[index] else gradient))
                targets.append(view)
                parameter.grad = None
            elif reached[index]:
                stale.append(view)
            reached[index] = gradient is not None
        if sources:
            torch._foreach_copy_(targets, sources)
        if stale:
            torch._foreach_zero_(stale)

    def fill_row_with_change(self, task: int) -> None:
        """Move ``.grad``, less the row's value so far, into the row of a task."""
        before, reached = self.jacobian[task].clone(), self._reached[task].copy()
        self.fill_row(task)
        self.jacobian[task].sub_(before)
        self._reached[task] = list(map(operator.or_, reached, self._reached[task]))

    def layer_gramians(self) -> Tensor:
        """Inner products of the task gradients by layer: (L, K, K), symmetric, on the device.

        They are in the buffer's precision: in float32, norms between 1e-19 and 1e19 have a square.
        """
        rows = self.jacobian
        gramians = rows.new_empty(len(self.layers), len(rows), len(rows))
        for gramian, columns in zip(gramians, self.slices.values(), strict=True):
            block = rows[:, columns]
            torch.mm(block, block.T, out=gramian)
        return gramians

    def add_to_grad(self, update: Tensor) -> None:
        """Add an update (P,) to ``.grad`` of the parameters that a task reached."""
        reached = [any(task) for task in zip(*self._reached, strict=True)]
        some_sparse = any(map(any, self._sparse))
        for index, (parameter, piece) in enumerate(zip(self.parameters, self.like_parameters(update), strict=True)):
            if reached[index]:
                gradient = piece.to(parameter.dtype)
                sparse = some_sparse and self._is_sparse(index)
                add_to_grad(parameter, gradient.to_sparse(1) if sparse else gradient)

    def _is_sparse(self, index: int) -> bool:
        """Whether all gradients of a parameter came sparse; sparse and dense sum to dense."""
        tasks = zip(self._reached, self._sparse, strict=True)
        return all(sparse[index] for reached, sparse in tasks if reached[index])


def _as_real(tensor: Tensor) -> Tensor:
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor


def _numbers(parameter: nn.Parameter) -> int:
    return parameter.numel() * (2 if parameter.is_complex() else 1)


def _buffer_dtype(parameters: Sequence[nn.Parameter]) -> torch.dtype:
    dtype = torch.float32
    for own in _dtypes(parameters):
        dtype = torch.promote_types(dtype, own.to_real())
    return dtype


def _coarsest_dtype(parameters: Sequence[nn.Parameter]) -> torch.dtype:
    return max(_dtypes(parameters), key=lambda dtype: torch.finfo(dtype).eps, default=torch.float32)


def _dtypes(parameters: Sequence[nn.Parameter]) -> set[torch.dtype]:
    return {p.dtype for p in parameters}  # few, and looked at in every step
