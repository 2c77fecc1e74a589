"""Counts of conflicts in stretches of steps, which tell how sure a ranking is.

Steps beside each other are alike: weights hardly move between them, and conflict drifts as training
goes on. Single steps, drawn anew, would look independent and make a ranking look too sure. Steps
that are drawn in stretches keep most of the dependence: the block bootstrap (Künsch, "The Jackknife
and the Bootstrap for General Stationary Observations", Annals of Statistics 1989).

A longer search has 16 to 32 stretches, the last of them perhaps shorter than the others: when there
are 32, neighbours are joined. They hold counts per layer and bin below cosine 0, so that they know
every severity.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recon.conflict.packed import compressed, read_compressed, text_of
from recon.conflict.severity import severity_in_hundredths
from recon.errors import number_of
from recon.files.reading import require, require_count

MOST = 32
"""The number of stretches at which neighbours are joined."""

LEAST = 8
"""The number of stretches below which nothing can be told from their spread."""

NEGATIVE_BINS = 100
"""Bins of cosines below 0, which the stretches keep."""


@dataclass(frozen=True)
class Stretches:
    """The conflicts in each stretch of observed steps.

    Attributes:
        steps: The number of observed steps in each of the B stretches.
        counts: (B, L, 100) int64, observed (step, pair) by layer and bin below cosine 0.
    """

    steps: tuple[int, ...]
    counts: NDArray[np.int64]

    def scores(self, severity: float) -> NDArray[np.int64]:
        """Return the S-conflict scores by stretch and layer, (B, L).

        Raises:
            ValueError: The severity is off the grid.
        """
        return self.counts[:, :, : severity_in_hundredths(severity) + 100].sum(axis=2)

    def resampled(self, severity: float, samples: int, seed: int) -> NDArray[np.int64]:
        """Return the scores of searches made of stretches that are drawn anew, (``samples``, L).

        Args:
            severity: The severity of the scores.
            samples: The number of searches.
            seed: Seed of the drawing.

        Raises:
            ValueError: There are too few stretches.

        Example:
            >>> stretches = Stretches((1,) * 8, np.ones((8, 2, 100), dtype=np.int64))
            >>> stretches.resampled(severity=0.0, samples=3, seed=0).tolist()
            [[800, 800], [800, 800], [800, 800]]
        """
        number = len(self.steps)
        if number < LEAST:
            raise ValueError(
                f"{number_of(number, 'stretch', 'stretches')} of steps tell nothing of their spread; observe "
                f"{LEAST} steps or more"
            )
        times = np.random.default_rng(seed).multinomial(number, [1 / number] * number, size=samples)
        return times @ self.scores(severity)

    def record(self) -> dict[str, Any]:
        """Return the content of the file for these stretches."""
        counts = self.counts.astype(np.min_scalar_type(self.counts.max(initial=0)))
        return {
            "steps": list(self.steps),
            "counts": text_of(compressed(counts.astype(counts.dtype.newbyteorder("<")))),
            "bytes": counts.itemsize,
        }

    @classmethod
    def read(cls, record: dict[str, Any], histogram: NDArray[np.int64]) -> "Stretches":
        """Read the ``record`` of stretches.

        Args:
            record: The record.
            histogram: (L, P, 200), the counts of the whole search, which these are a part of.

        Raises:
            ValueError: It is no such record, or does not fit the histogram.
        """
        steps = [require_count(own, "a stretch's steps") for own in require(record, "steps", (list,), "'stretches'")]
        size = require(record, "bytes", (int,), "'stretches'")
        if size not in (1, 2, 4, 8) or not 1 <= len(steps) <= MOST:
            raise ValueError(
                f"'stretches' are {len(steps)} with counts of {size} bytes, not 1 to {MOST} of 1, 2, 4 or 8"
            )
        shape = (len(steps), len(histogram), NEGATIVE_BINS)
        content = read_compressed(record, "counts", size * len(steps) * len(histogram) * NEGATIVE_BINS, "'stretches'")
        counts = np.frombuffer(content, dtype=f"<u{size}").astype(np.int64).reshape(shape)
        own, most = counts.sum(axis=0), histogram[:, :, :NEGATIVE_BINS].sum(axis=1)
        possible = np.array(steps)[:, None] * histogram.shape[1]
        if (counts < 0).any() or (counts > most).any() or (own > most).any() or (counts.sum(axis=2) > possible).any():
            raise ValueError("'stretches' count conflicts that the histograms or the steps cannot have")
        return cls(tuple(steps), counts)


class Marks:
    """Cumulative counts at the ends of stretches, while a search goes on.

    Between two marks nothing is computed.

    Args:
        layers: L.

    Attributes:
        ends: The number of observed steps at each mark, the beginning included.
        counts: The cumulative counts at each mark, (L, 100) int32 on the histogram's device.
    """

    def __init__(self, layers: int) -> None:
        self.ends = [0]
        self.counts = [torch.zeros(layers, NEGATIVE_BINS, dtype=torch.int32)]
        self._length = 1

    def note(self, step: int, histogram: Tensor) -> None:
        """Set a mark if a stretch ends with this observed step.

        Args:
            step: The number of observed steps, this one included.
            histogram: (L, P, 200), the counts of all of them.
        """
        if step - self.ends[-1] < self._length:
            return
        self._add(step, histogram)
        if len(self.ends) > MOST:
            self.ends, self.counts, self._length = self.ends[::2], self.counts[::2], 2 * self._length

    def make_room(self, layers: int, places: list[int]) -> None:
        """Extend the counts to more layers; the present layers move to the given places."""
        for number, before in enumerate(self.counts):
            self.counts[number] = before.new_zeros(layers, NEGATIVE_BINS)
            self.counts[number][places] = before

    def stretches(self, step: int, histogram: Tensor) -> Stretches:
        """The stretches until an observed step, of which the counts are given."""
        now = Marks(0)
        now.ends, now.counts = list(self.ends), list(self.counts)
        if step > now.ends[-1]:
            now._add(step, histogram)
        counts = torch.stack([own.to("cpu", torch.int64) for own in now.counts]).diff(dim=0)
        return Stretches(tuple(np.diff(now.ends).tolist()), counts.numpy())

    def state(self) -> dict[str, Tensor]:
        """Return copies on the host."""
        ends = torch.tensor([*self.ends, self._length])
        return {"stretch_ends": ends, "stretch_counts": torch.stack([own.to("cpu", copy=True) for own in self.counts])}

    def load(self, state: dict[str, Any], step: int, histogram: Tensor) -> None:
        """Continue from such copies, or from none: then the stretches begin with this step.

        Raises:
            ValueError: The counts are of other layers.
        """
        if "stretch_ends" not in state:
            self.ends, self.counts, self._length = [], [], 1
            self._add(step, histogram)
            return
        *self.ends, self._length = state["stretch_ends"].tolist()
        if state["stretch_counts"].shape != (len(self.ends), len(histogram), NEGATIVE_BINS):
            raise ValueError(
                f"stretch_counts of the state has shape {tuple(state['stretch_counts'].shape)}; use another"
            )
        self.counts = [own.to(histogram.device, copy=True) for own in state["stretch_counts"]]

    def _add(self, step: int, histogram: Tensor) -> None:
        self.ends.append(step)
        self.counts.append(histogram[:, :, :NEGATIVE_BINS].sum(dim=1, dtype=torch.int32))
