"""The layers of highest total score within budgets of layers, parameters and operations.

Choosing layers by parameters alone is a 0/1 knapsack. Operations are dearer to model: a group of
operations runs once per task as soon as one of the layers before it is branched. Both make one
integer program,

    max  sum_l score_l x_l    x_l in {0, 1}: layer l is branched
    s.t. r_g >= x_l           r_g in [0, 1]: group g runs once per task, for all l before g
         sum_l x_l <= layers,  sum_l parameters_l x_l <= parameters,  sum_g flops_g r_g <= flops

which SciPy's HiGHS solves without a gap. It computes in floating point, so each solution is checked
in whole numbers, and one that breaks a budget by rounding is cut off.

Of solutions with the same score the program then finds the one with the fewest operations, of these
the one with the fewest parameters, and of these the one with the earliest layers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import gcd, inf
from typing import TYPE_CHECKING

from recon.branching.prices import Prices

if TYPE_CHECKING:
    from numpy.typing import NDArray

_CHUNK = 20
"""Layers whose order one program decides: the weights 1, 2, 4, ... stay exact."""


@dataclass(frozen=True)
class Limits:
    """The most that a selection may have or add; ``None`` for no limit.

    Attributes:
        layers: Number of layers.
        parameters: Parameters of the copies.
        flops: Operations of a forward.
    """

    layers: int | None = None
    parameters: int | None = None
    flops: int | None = None


def best_within(scores: Mapping[str, int], prices: Prices, limits: Limits) -> list[str]:
    """Return the layers of highest total score within limits, in the order of ``scores``.

    The choice is exact, see the module. Layers without a score are never chosen.

    Args:
        scores: Layer -> score, of the layers that may be chosen.
        prices: The prices of these layers.
        limits: The limits.

    Example:
        >>> prices = Prices({"a": 4, "b": 3, "c": 2}, 9, {}, 0)
        >>> best_within({"a": 6, "b": 4, "c": 3}, prices, Limits(parameters=5))
        ['b', 'c']
    """
    layers = [layer for layer, score in scores.items() if score > 0 and _fits(layer, prices, limits)]
    if not layers:
        return []
    program = _Program(layers, prices)
    program.limit([1] * len(layers), limits.layers)
    program.limit([prices.parameters[layer] for layer in layers], limits.parameters)
    program.limit(program.flops, limits.flops)
    score = [scores[layer] for layer in layers]
    best = program.maximise(score)
    program.limit([-one for one in score], -sum(one for one, on in zip(score, best, strict=True) if on))
    for cost in (program.flops, [prices.parameters[layer] for layer in layers]):
        best = program.maximise([-one for one in cost])
        program.limit(cost, program.value(cost, best))
    for start in range(0, len(layers), _CHUNK):
        end = min(start + _CHUNK, len(layers))
        best = program.maximise([0] * start + [2 ** (end - 1 - place) for place in range(start, end)])
        program.fix(best[:end])
    return [layer for layer, on in zip(layers, best, strict=True) if on]


def _fits(layer: str, prices: Prices, limits: Limits) -> bool:
    return (limits.parameters is None or prices.parameters[layer] <= limits.parameters) and (
        limits.flops is None or prices.flops_of([layer]) <= limits.flops
    )


class _Program:
    """An integer program over layers and the groups of operations behind them.

    Rows are whole numbers: one for each layer, then one for each group; those left out are 0.
    """

    def __init__(self, layers: Sequence[str], prices: Prices) -> None:
        place = {layer: index for index, layer in enumerate(layers)}
        groups: dict[frozenset[int], int] = {}
        for before, count in prices.flops.items():
            own = frozenset(place[layer] for layer in before if layer in place)
            if own:
                groups[own] = groups.get(own, 0) + count
        self._layers = len(layers)
        self._before = list(groups)
        self._limits: list[tuple[list[int], int]] = []
        self._cuts: list[list[bool]] = []
        self._fixed: list[bool] = []
        self.flops = [0] * len(layers) + list(groups.values())

    def limit(self, row: Sequence[int], most: int | None) -> None:
        """Keep a row's value from now on at ``most`` or below."""
        if most is not None and any(row):
            self._limits.append(([*row], most))

    def fix(self, choice: Sequence[bool]) -> None:
        """Keep the choice of the first layers from now on."""
        self._fixed = [*choice]

    def value(self, row: Sequence[int], choice: Sequence[bool]) -> int:
        """The value of a row for a choice of layers."""
        repeated = [any(choice[layer] for layer in before) for before in self._before]
        return sum(one for one, on in zip(row, [*choice, *repeated], strict=False) if on)

    def maximise(self, row: Sequence[int]) -> list[bool]:
        """The choice of layers that maximises a row, within all limits in whole numbers."""
        while True:
            choice = self._solve(row)
            if all(self.value(limited, choice) <= most for limited, most in self._limits):
                return choice
            self._cuts.append(choice)

    def _solve(self, row: Sequence[int]) -> list[bool]:
        import numpy as np
        from scipy.optimize import Bounds, LinearConstraint, milp
        from scipy.sparse import csr_array

        size = self._layers + len(self._before)
        rows, most = self._constraints(size)
        upper = np.ones(size)
        lower = np.zeros(size)
        lower[: len(self._fixed)] = upper[: len(self._fixed)] = self._fixed
        found = milp(
            -_scaled(self._padded(row, size))[0],
            integrality=[1] * self._layers + [0] * len(self._before),
            bounds=Bounds(lower, upper),
            constraints=LinearConstraint(csr_array(rows), -inf, most),
            options={"mip_rel_gap": 0.0},
        )
        if found.x is None:
            raise RuntimeError(f"the integer program of the selection was not solved: {found.message}")
        return [bool(one > 0.5) for one in found.x[: self._layers]]

    def _constraints(self, size: int) -> "tuple[NDArray, NDArray]":  # type: ignore[type-arg]
        """The rows of all constraints, and the most that each may be."""
        import numpy as np

        rows, most = [], []
        for group, before in enumerate(self._before, start=self._layers):
            for layer in before:
                runs = np.zeros(size)
                runs[layer], runs[group] = 1, -1
                rows.append(runs)
                most.append(0.0)
        for limited, limit in self._limits:
            row, unit = _scaled(self._padded(limited, size))
            rows.append(row)
            most.append((limit + 0.5) * unit)  # values are whole numbers
        for cut in self._cuts:
            rows.append(np.array([*(1 if on else -1 for on in cut), *[0] * len(self._before)], dtype=float))
            most.append(sum(cut) - 1)
        return np.array(rows).reshape(-1, size), np.array(most)

    def _padded(self, row: Sequence[int], size: int) -> list[int]:
        return [*row, *[0] * (size - len(row))]


def _scaled(row: Sequence[int]) -> "tuple[NDArray, float]":  # type: ignore[type-arg]
    """A row in numbers that a solver in floating point keeps apart, and its unit."""
    import numpy as np

    unit = 1 / max(gcd(*row), max(map(abs, row)) / 1e6, 1)
    return np.array(row, dtype=float) * unit, unit
