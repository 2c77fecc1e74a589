"""Sums over the observed steps, on the Gramians' device: cosines, histograms, gradient norms."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from recon.conflict.severity import BIN_EDGES, BINS
from recon.conflict.stretches import Marks, Stretches

# Squared norms from this value up and NaN count as a missing gradient; products of two of them
# would overflow.
LARGEST_SQUARE = 1e150

# The histogram of 128 tasks has 8,128 pairs x 200 bins per layer; no run has 2^31 steps.
_COUNTS = torch.int32


class CosineStatistics:
    """The sums for L layers and K tasks.

    Args:
        layers: L.
        tasks: K.

    Attributes:
        tensors: By name: ``histogram`` (L, P, 200), ``cosine_sums`` (L, P), ``norm_sums`` and
            ``norm_counts`` (L, K).
        steps: The number of steps in the sums.
    """

    def __init__(self, layers: int, tasks: int) -> None:
        pairs = list(combinations(range(tasks), 2))
        # Made on the host: for i / 100 a GPU multiplies by a reciprocal, an ulp off the grid.
        self._edges = torch.tensor(BIN_EDGES[1:-1], dtype=torch.float64)
        self._first, self._second = torch.tensor(pairs).T.contiguous()
        self._inner = self._first * tasks + self._second
        self.tensors = {
            "histogram": torch.zeros(layers, len(pairs), BINS, dtype=_COUNTS),
            "cosine_sums": torch.zeros(layers, len(pairs), dtype=torch.float64),
            "norm_sums": torch.zeros(layers, tasks, dtype=torch.float64),
            "norm_counts": torch.zeros(layers, tasks, dtype=torch.int64),
        }
        self.steps = 0
        self._marks = Marks(layers)

    def add(self, gramians: Tensor) -> None:
        """Add the (L, K, K) Gramians of a step, in float64; the sums move to their device."""
        self._move_to(gramians.device)
        squares = gramians.diagonal(dim1=1, dim2=2)
        squares = torch.where(squares < LARGEST_SQUARE, squares, 0.0)
        self._add_norms(squares)
        products = squares.index_select(1, self._first) * squares.index_select(1, self._second)
        # One root of the product is exact for every rational cosine; a product of two rounded roots
        # is not.
        self._add_cosines(gramians.flatten(1).index_select(1, self._inner) / products.sqrt())
        self.steps += 1
        self._marks.note(self.steps, self.tensors["histogram"])

    def make_room(self, layers: int, places: Sequence[int]) -> None:
        """Extend the sums to more layers; the present layers move to the given places."""
        for name, tensor in self.tensors.items():
            self.tensors[name] = tensor.new_zeros(layers, *tensor.shape[1:])
            self.tensors[name][list(places)] = tensor
        self._marks.make_room(layers, list(places))

    def stretches(self) -> Stretches:
        """Return the conflicts in stretches of the steps so far."""
        return self._marks.stretches(self.steps, self.tensors["histogram"])

    def on_host(self) -> dict[str, Tensor]:
        """Return copies of the tensors on the host."""
        return {name: tensor.to("cpu", copy=True) for name, tensor in self.tensors.items()} | self._marks.state()

    def load(self, state: dict[str, Any]) -> None:
        """Continue from such copies, and from the number of ``observed_steps`` beside them.

        Raises:
            ValueError: A tensor has another shape.
        """
        for name, own in self.tensors.items():
            if state[name].shape != own.shape:
                given, expected = tuple(state[name].shape), tuple(own.shape)
                raise ValueError(f"{name} of the state has shape {given}, not {expected}; use an intact checkpoint")
        for name, own in self.tensors.items():
            own.copy_(state[name])
        self.steps = state["observed_steps"]
        self._marks.load(state, self.steps, self.tensors["histogram"])

    def _move_to(self, device: torch.device) -> None:
        if self._edges.device != device:
            self.tensors = {name: tensor.to(device) for name, tensor in self.tensors.items()}
            self._marks.counts = [own.to(device) for own in self._marks.counts]
            self._edges = self._edges.to(device)
            self._first, self._second, self._inner = (
                index.to(device) for index in (self._first, self._second, self._inner)
            )

    def _add_norms(self, squares: Tensor) -> None:
        self.tensors["norm_sums"] += squares.sqrt()
        self.tensors["norm_counts"] += squares > 0

    def _add_cosines(self, cosines: Tensor) -> None:
        valid = cosines.abs() < torch.inf  # isfinite in two kernels, not four
        cosines = torch.where(valid, cosines, 0.0)
        bins = torch.bucketize(cosines, self._edges, right=True)
        self.tensors["histogram"].scatter_add_(2, bins.unsqueeze(2), valid.to(_COUNTS).unsqueeze(2))
        self.tensors["cosine_sums"] += cosines
