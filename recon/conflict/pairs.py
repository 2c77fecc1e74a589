"""The cosine histograms of one layer as JSON: readable for few task pairs, packed for many.

128 tasks have 8,128 pairs in each layer. Written out for 41 layers, they would be 390 MB.

The readable form is a list of pairs:

    [{"mean_cosine": null if never observed, "first_bin": i,
      "counts": [of the bin i/100 <= cosine < (i+1)/100, and of the bins above it]}]

The packed form holds all pairs of the layer in each base64 text, numbers little-endian:

    {"mean_cosines": float64, NaN if never observed,
     "filled": zlib of one bit per bin, 200 per pair, the highest bit of a byte first,
               set where the bin counted anything,
     "counts": zlib of the counts of the filled bins, in this order,
     "bytes": the size of a count: 1, 2, 4 or 8}
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recon.conflict.packed import compressed, read_bytes, read_compressed, text_of
from recon.conflict.severity import BINS
from recon.errors import number_of
from recon.files.reading import NUMBER, require, require_count

READABLE_PAIRS = 45
"""The largest number of pairs that is written out: that of ten tasks."""

_MOST = 2**53
"""More observations of a layer than a search can make, and few enough that sums stay exact."""


@dataclass(frozen=True)
class Pairs:
    """The observations of a layer's pairs.

    Attributes:
        mean_cosines: (P,) float64, NaN where a pair was never observed.
        filled: Positions of the bins that counted anything, in the flattened (P, 200) histogram.
        counts: Counts of these bins, int64.
    """

    mean_cosines: NDArray[np.float64]
    filled: NDArray[np.int64]
    counts: NDArray[np.int64]

    @classmethod
    def of(cls, mean_cosines: NDArray[np.float64], histogram: NDArray[np.int64]) -> "Pairs":
        """Make pairs from their mean cosines (P,) and histograms (P, 200)."""
        filled = np.flatnonzero(histogram)
        return cls(mean_cosines, filled, histogram.reshape(-1)[filled])

    @classmethod
    def read(cls, record: list[Any] | dict[str, Any], number: int, where: str) -> "Pairs":
        """Read the ``record`` of ``number`` pairs.

        Raises:
            ValueError: It is not such a record, or its values contradict each other.
        """
        pairs = _unpacked(record, number, where) if isinstance(record, dict) else _read(record, number, where)
        pairs._check(where)
        return pairs

    @property
    def observations(self) -> NDArray[np.int64]:
        """The number of observations of each pair, (P,)."""
        return self._sums(self.counts)

    def record(self) -> list[dict[str, Any]] | dict[str, Any]:
        """Return the content of the file for these pairs."""
        return self._written_out() if len(self.mean_cosines) <= READABLE_PAIRS else self._packed()

    def _written_out(self) -> list[dict[str, Any]]:
        histogram = np.zeros((len(self.mean_cosines), BINS), dtype=np.int64)
        histogram.reshape(-1)[self.filled] = self.counts
        return [_pair_record(*pair) for pair in zip(self.mean_cosines.tolist(), histogram.tolist(), strict=True)]

    def _packed(self) -> dict[str, Any]:
        filled = np.zeros(len(self.mean_cosines) * BINS, dtype=bool)
        filled[self.filled] = True
        counts = self.counts.astype(np.min_scalar_type(self.counts.max(initial=0)))
        return {
            "mean_cosines": text_of(self.mean_cosines.astype("<f8").tobytes()),
            "filled": text_of(compressed(np.packbits(filled))),
            "counts": text_of(compressed(counts.astype(counts.dtype.newbyteorder("<")))),
            "bytes": counts.itemsize,
        }

    def _sums(self, values: NDArray[np.int64]) -> NDArray[np.int64]:
        """The sum over each pair's values of the filled bins, (P,)."""
        ends = np.searchsorted(self.filled, np.arange(len(self.mean_cosines) + 1) * BINS)
        return np.diff(np.concatenate(([0], np.cumsum(values)))[ends])

    def _check(self, where: str) -> None:
        if self.counts.sum(dtype=np.float64) > _MOST:
            raise ValueError(f"{where} has more than 2^53 observations, which no search can make")
        means, observations = self.mean_cosines, self.observations
        observed = observations > 0
        possible = np.where(observed, np.abs(means) <= 1, np.isnan(means))
        # A bin is a hundredth wide. The outermost bins get one more each way, because rounding puts
        # cosines beyond -1 and 1 there.
        beyond_edges = 100 * np.where(possible, means, 0) * observations - self._sums(
            self.counts * (self.filled % BINS - 100)
        )
        possible &= ~observed | ((-observations <= beyond_edges) & (beyond_edges <= 2 * observations))
        if not possible.all():
            pair = int(possible.argmin())
            raise ValueError(
                f"pair number {pair} of {where} has {number_of(observations[pair], 'observation')} and the mean cosine "
                f"{means[pair]}, which its histogram cannot have"
            )


def _pair_record(mean_cosine: float, histogram: list[int]) -> dict[str, Any]:
    filled = [b for b, number in enumerate(histogram) if number]
    first, last = (filled[0], filled[-1]) if filled else (100, 99)
    return {
        "mean_cosine": None if math.isnan(mean_cosine) else mean_cosine,
        "first_bin": first - 100,
        "counts": histogram[first : last + 1],
    }


def _read(record: list[Any], number: int, where: str) -> Pairs:
    if len(record) != number:
        raise ValueError(f"{where} has {number_of(len(record), 'pair')}, not the {number} of its tasks")
    pairs = [_read_pair(pair, f"a pair of {where}") for pair in record]
    histogram = np.array([histogram for _, histogram in pairs], dtype=np.int64)
    return Pairs.of(np.array([mean for mean, _ in pairs], dtype=np.float64), histogram)


def _read_pair(pair: Any, where: str) -> tuple[float, list[int]]:
    first = require(pair, "first_bin", (int,), where) + 100
    counts = [
        require_count(number, f"a histogram bin of {where}") for number in require(pair, "counts", (list,), where)
    ]
    if first < 0 or first + len(counts) > BINS:
        raise ValueError(
            f"the histogram of {where} has {number_of(len(counts), 'bin')} from {first - 100}, beyond -100 to 99"
        )
    mean = require(pair, "mean_cosine", (*NUMBER, type(None)), where)
    if mean is not None and not -1 <= mean <= 1:
        raise ValueError(f"'mean_cosine' of {where} is {mean}, not a number from -1 to 1")
    return math.nan if mean is None else float(mean), [0] * first + counts + [0] * (BINS - first - len(counts))


def _unpacked(record: dict[str, Any], number: int, where: str) -> Pairs:
    size = require(record, "bytes", (int,), where)
    if size not in (1, 2, 4, 8):
        raise ValueError(f"'bytes' of {where} is {size}, not 1, 2, 4 or 8")
    means = read_bytes(record, "mean_cosines", where)
    if len(means) != 8 * number:
        raise ValueError(
            f"'mean_cosines' of {where} has {len(means)} bytes, not {8 * number} for its {number_of(number, 'pair')}"
        )
    bits = read_compressed(record, "filled", math.ceil(number * BINS / 8), where)
    filled = np.flatnonzero(np.unpackbits(np.frombuffer(bits, dtype=np.uint8))[: number * BINS])
    counts = np.frombuffer(read_compressed(record, "counts", size * len(filled), where), dtype=f"<u{size}")
    if counts.min(initial=1) == 0 or counts.max(initial=1) > _MOST:
        raise ValueError(f"'counts' of {where} go from {counts.min()} to {counts.max()}, not from 1 to 2^53")
    return Pairs(np.frombuffer(means, dtype="<f8").astype(np.float64), filled, counts.astype(np.int64))
