"""The layout of task gradients: the place of each shared parameter in a flat row of numbers."""

import operator
from collections.abc import Mapping, Sequence
from itertools import accumulate, chain, pairwise

import torch
from torch import Tensor, nn

from recon.gradients.graph import add_to_grad
from recon.gradients.reached import Reached

_NUMBERS_AT_ONCE = 1 << 22  # 16 MB in float32; glibc maps and unmaps 32 MB and more each time


class Layout:
    """The columns of P real numbers that shared parameters take in a row.

    A complex parameter takes two numbers for each of its own, the real and the imaginary part, so
    that rows have the real inner product Re <g, h>.

    Args:
        layers: Layer name -> parameters, as :func:`recon.gradients.shared_layers` gives them; none
            if all is frozen.

    Attributes:
        layers: Names of the layers.
        by_layer: Layer name -> its parameters.
        parameters: Their parameters.
        slices: Layer name -> its columns.
        size: P.
        columns_at_once: The columns in parts of whole parameters. A tensor for each takes memory
            that the allocator of a CPU keeps, where one for all takes pages of the system's anew.
        dtype: The dtype of rows: that of the parameters, but float32 at least.
        precision: The dtype of the coarsest parameters; gradients in finer rows are no finer.
        device: The device of the parameters.

    Raises:
        ValueError: The parameters are on several devices.

    Example:
        >>> network = nn.Sequential(nn.Linear(2, 1), nn.Linear(1, 1))
        >>> Layout({"0": [*network[0].parameters()], "1": [*network[1].parameters()]}).slices
        {'0': slice(0, 3, None), '1': slice(3, 5, None)}
    """

    def __init__(self, layers: Mapping[str, Sequence[nn.Parameter]]) -> None:
        self.layers = tuple(layers)
        self.by_layer = dict(layers)
        self.parameters = [p for parameters in layers.values() for p in parameters]
        devices = {str(p.device) for p in self.parameters}
        if len(devices) > 1:
            raise ValueError(
                f"shared parameters are on several devices ({', '.join(sorted(devices))}); move them to one"
            )
        counts = [sum(map(_numbers, parameters)) for parameters in layers.values()]
        ends = torch.tensor([0, *counts]).cumsum(0).tolist()
        self.slices = dict(zip(self.layers, (slice(a, b) for a, b in pairwise(ends)), strict=True))
        self.size: int = ends[-1]
        self._numbers_at_once = _in_parts([*map(_numbers, self.parameters)])
        ends = [0, *accumulate(map(sum, self._numbers_at_once))]
        self.columns_at_once = [slice(a, b) for a, b in pairwise(ends)]
        self.dtype = _row_dtype(self.parameters)
        self.precision = _coarsest_dtype(self.parameters)
        self.device = self.parameters[0].device if self.parameters else torch.get_default_device()

    def is_for(self, layers: Mapping[str, Sequence[nn.Parameter]]) -> bool:
        """Whether the layout still is that of these layers, not moved, cast or unfrozen since."""
        parameters = [p for own in layers.values() for p in own]
        if len(parameters) != len(self.parameters) or not all(map(operator.is_, parameters, self.parameters)):
            return False
        device = parameters[0].device if parameters else self.device
        return (device, _row_dtype(parameters), _coarsest_dtype(parameters)) == (
            self.device,
            self.dtype,
            self.precision,
        )

    def like_parameters(self, *flat: Tensor) -> list[Tensor]:
        """Views of a flat (P,) tensor in the shapes of the parameters, for complex ones copies.

        Where a parameter is dense in memory, its view has its strides.

        Args:
            *flat: The tensor, or its parts of ``columns_at_once``.
        """
        views = zip(self.real_views(*flat), self.parameters, strict=True)
        return [torch.view_as_complex(view.clone()) if p.is_complex() else view for view, p in views]

    def add_where(self, reached: Reached, *update: Tensor) -> None:
        """Add an update (P,) to ``.grad`` of reached parameters, sparse where all came sparse.

        Args:
            reached: The parameters that tasks reach.
            *update: The update, or its parts of ``columns_at_once``.
        """
        pieces = zip(self.parameters, self.like_parameters(*update), reached.some, reached.sparse, strict=True)
        for parameter, piece, some, sparse in pieces:
            if some:
                gradient = piece.to(parameter.dtype)
                add_to_grad(parameter, gradient.to_sparse(1) if sparse else gradient)

    def real_views(self, *flat: Tensor) -> list[Tensor]:
        """Views as of :meth:`like_parameters`; complex parameters have a last dimension of 2."""
        views = []
        numbers = [[*map(_numbers, self.parameters)]] if len(flat) == 1 else self._numbers_at_once
        pieces = chain.from_iterable(map(Tensor.split, flat, numbers))
        for piece, parameter in zip(pieces, self.parameters, strict=True):
            p = as_real(parameter)  # for its shape and strides alone
            dense = p.is_contiguous() or torch.empty_like(p, device="meta").stride() == p.stride()
            views.append(piece.as_strided(p.shape, p.stride()) if dense else piece.view(p.shape))
        return views


def as_real(tensor: Tensor) -> Tensor:
    """A complex tensor as real numbers, with a last dimension of 2; another as it is.

    Example:
        >>> as_real(torch.tensor([1 + 2j]))
        tensor([[1., 2.]])
    """
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor


def _numbers(parameter: nn.Parameter) -> int:
    return parameter.numel() * (2 if parameter.is_complex() else 1)


def _in_parts(numbers: Sequence[int]) -> list[list[int]]:
    """The numbers of parameters, in parts whose sums are below 4 million where that can be."""
    parts: list[list[int]] = [[]]
    for number in numbers:
        if parts[-1] and sum(parts[-1]) + number > _NUMBERS_AT_ONCE:
            parts.append([])
        parts[-1].append(number)
    return parts


def _row_dtype(parameters: Sequence[nn.Parameter]) -> torch.dtype:
    dtype = torch.float32
    for own in _dtypes(parameters):
        dtype = torch.promote_types(dtype, own.to_real())
    return dtype


def _coarsest_dtype(parameters: Sequence[nn.Parameter]) -> torch.dtype:
    return max(_dtypes(parameters), key=lambda dtype: torch.finfo(dtype).eps, default=torch.float32)


def _dtypes(parameters: Sequence[nn.Parameter]) -> set[torch.dtype]:
    return {p.dtype for p in parameters}  # few, and looked at in every step
