"""The choice of tiles: which task gradients of which parameters are in memory together.

A tile holds the gradients of some tasks in a group of parameters while those of the later tasks
arrive and leave. Its cost is counted in operations of a backward.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import inf


@dataclass(frozen=True)
class Stretch:
    """A stretch of the parameters in the order of a backward.

    Attributes:
        sizes: Numbers of each parameter.
        ends: Operation after which the gradient of each one is complete.
        start: Operation from which backwards start.
    """

    sizes: list[int]
    ends: list[int]
    start: int

    def part(self, first: int, end: int, start: int | None = None) -> "Stretch":
        """The parameters from ``first`` to before ``end``, from another start if one is given."""
        return Stretch(self.sizes[first:end], self.ends[first:end], self.start if start is None else start)


@dataclass(frozen=True)
class Tiling:
    """The tiles for a number of tasks in a given memory.

    Args:
        tasks: K, two at least.
        budget: Numbers that may be held.

    Example:
        >>> tiling = Tiling(tasks=10, budget=450)
        >>> tiling.held(numbers=100), list(tiling.first_tasks(numbers=100))
        (3, [0, 3, 6])
        >>> quarters = Stretch(sizes=[40, 40, 40, 40], ends=[1, 2, 3, 4], start=0)
        >>> [Tiling(2, budget).groups(quarters) for budget in (160, 320)]
        [[2, 4], [4]]
    """

    tasks: int
    budget: int

    def less(self, numbers: int) -> "Tiling":
        """The tiling in what a number of numbers leaves of the memory."""
        return Tiling(self.tasks, self.budget - numbers)

    def held(self, numbers: int) -> int:
        """Number of tasks that a tile holds, beside the one whose gradient arrives.

        One at least; K - 1 at most, since the last task has no later one to wait for.

        Args:
            numbers: Numbers of the group's parameters.
        """
        return max(1, min(self.tasks - 1, self.budget // max(1, numbers) - 1))

    def first_tasks(self, numbers: int) -> range:
        """The first task of each tile of a group."""
        return range(0, self.tasks - 1, self.held(numbers))

    def backwards(self, numbers: int) -> int:
        """Number of backwards that bring all pairs of tasks together in a group."""
        return sum(self.tasks - first for first in self.first_tasks(numbers))

    def groups(self, stretch: Stretch) -> list[int]:
        """The ends of the groups of parameters that cost least.

        A small group holds many tasks, so that few gradients are computed twice. But its backwards
        run down to it from the start anew.
        """
        divisions = (_filled(stretch.sizes, self.budget // (held + 1)) for held in range(1, self.tasks))
        return min(divisions, key=lambda ends: self._cost(stretch, ends))

    def cost(self, stretch: Stretch) -> float:
        """Operations of all backwards for a stretch, in its cheapest groups."""
        return self._cost(stretch, self.groups(stretch)) if stretch.sizes else 0.0

    def _cost(self, stretch: Stretch, ends: Sequence[int]) -> float:
        """Half of an operation is for the gradient of its input, half for its parameters."""
        cost, above = 0.0, stretch.start
        for first, end in pairwise([0, *ends]):
            last = stretch.ends[end - 1]
            cost += self.backwards(sum(stretch.sizes[first:end])) * (last - stretch.start + last - above) / 2
            above = last
        return cost

    def stops(self, stretch: Stretch, bottlenecks: Sequence[int], kept: int) -> list[tuple[int, int]]:
        """The bottlenecks at which backwards stop and start again.

        Args:
            stretch: The parameters.
            bottlenecks: Positions of the bottlenecks.
            kept: Numbers of the task gradients at one of them.

        Returns:
            ``(number of parameters above, position)`` of each: as far down as all tasks fit, or the
            next one.
        """
        capacity = (self.budget - 2 * kept) // self.tasks
        stops: list[tuple[int, int]] = []
        begin, numbers, candidate = 0, 0, None
        counts = _counts(stretch.ends, bottlenecks)
        for count, position in counts:
            if not begin < count < len(stretch.sizes):
                continue
            numbers = sum(stretch.sizes[begin:count])
            if candidate is not None and numbers > capacity:
                stops.append(candidate)
                begin = candidate[0]
            candidate = (count, position)
        return [*stops, candidate] if candidate is not None else stops

    def cost_with_stops(self, stretch: Stretch, bottlenecks: Sequence[int], kept: int) -> float:
        """Operations of all backwards if they start again at the bottlenecks.

        Infinite if the gradients kept there leave no room for the largest parameter, twice.
        """
        within = self.less(2 * kept)
        if 2 * kept > self.budget // 8 and 2 * max(stretch.sizes, default=0) > within.budget:
            return inf
        cost, first, start = 0.0, 0, stretch.start
        for count, position in [*self.stops(stretch, bottlenecks, kept), (len(stretch.sizes), 0)]:
            cost += within.cost(stretch.part(first, count, start))
            first, start = count, position
        return cost


def _filled(sizes: Sequence[int], capacity: int) -> list[int]:
    """Ends of groups with as many parameters as a capacity takes, one at least."""
    ends, numbers = [], 0
    for index, size in enumerate(sizes):
        if index and numbers + size > capacity:
            ends.append(index)
            numbers = 0
        numbers += size
    return [*ends, len(sizes)]


def _counts(ends: Sequence[int], bottlenecks: Sequence[int]) -> list[tuple[int, int]]:
    """``(number of parameters whose gradient is complete before it, position)`` of bottlenecks."""
    counts, count = [], 0
    for position in bottlenecks:
        while count < len(ends) and ends[count] <= position:
            count += 1
        counts.append((count, position))
    return counts
