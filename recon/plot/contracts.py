"""The parts of conflict maps that pictures need."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor


class Scored(Protocol):
    """A conflict map of either kind.

    Attributes:
        layers: The L layers.
        severity: The one severity at which its scores are known; None when it knows rates at every
            severity.
    """

    layers: tuple[str, ...]
    severity: float | None

    def scores(self, severity: float) -> dict[str, int]:
        """Layer -> S-conflict score."""

    def rates(self, severity: float) -> dict[str, float]:
        """Layer -> fraction of its observations with cosine < ``severity``."""


class Measured(Protocol):
    """The map of a search.

    Attributes:
        layers: The L layers.
        tasks: The K tasks.
        pairs: The P pairs of tasks.
        histogram: (L, P, B), observed steps in B equal bins of the cosine from -1 to 1.
        mean_cosine: (L, P), NaN where a pair was never observed.
    """

    layers: tuple[str, ...]
    tasks: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]
    histogram: Tensor
    mean_cosine: Tensor


class Agreement(Protocol):
    """The agreement of N maps, pair by pair.

    Attributes:
        names: The N names.
        layers: The layers that all maps have.
        k: The number of top layers that were compared.
        spearman: (N, N), rank correlations of the scores.
        overlap: (N, N), the number of layers in the top k of both.
    """

    @property
    def names(self) -> Sequence[str]: ...
    @property
    def layers(self) -> Sequence[str]: ...
    @property
    def k(self) -> int: ...
    @property
    def spearman(self) -> NDArray[np.float64]: ...
    @property
    def overlap(self) -> NDArray[np.int64]: ...
    @property
    def chance(self) -> float: ...
