"""Groups of tasks by their mean cosines in a layer: average linkage on 1 - cosine.

Two clusters of tasks join at the mean of 1 - cosine over the pairs between them, the nearest two
first (SciPy's ``average`` linkage). Undoing the last joins gives any number of groups. Undoing all
joins above 1 - S leaves the groups of friends at severity S. A pair that was never observed has no
cosine, and counts as cosine 0.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recon.conflict.severity import severity_in_hundredths
from recon.errors import unknown_name


@dataclass(frozen=True)
class Joins:
    """The joins of the tasks of one layer into clusters, in their order.

    Attributes:
        tasks: The K tasks.
        pairs: K - 1 joins: the two clusters, numbered as in ``scipy.cluster.hierarchy.linkage``.
        heights: The mean of 1 - cosine at each join; they do not fall.
    """

    tasks: tuple[str, ...]
    pairs: tuple[tuple[int, int], ...]
    heights: tuple[float, ...]

    @classmethod
    def of(cls, tasks: Sequence[str], cosines: NDArray[np.float64]) -> "Joins":
        """Find the joins.

        Args:
            tasks: The K tasks.
            cosines: (K (K - 1) / 2,), the mean cosine of each pair in the order of
                ``itertools.combinations(tasks, 2)``, NaN where it was not observed.

        Example:
            >>> Joins.of(["a", "b", "c"], np.array([-0.5, 0.25, -0.25])).heights
            (0.75, 1.375)
        """
        from scipy.cluster.hierarchy import linkage

        linked = linkage(1 - np.nan_to_num(cosines), method="average")
        pairs = tuple((int(first), int(second)) for first, second in linked[:, :2])
        return cls(tuple(tasks), pairs, tuple(linked[:, 2].tolist()))

    def friends(self, severity: float) -> int:
        """The number of groups after all joins of clusters with mean cosine >= ``severity``."""
        limit = 1 - severity_in_hundredths(severity) / 100 + 1e-12  # of rounding in the means
        return len(self.tasks) - sum(height <= limit for height in self.heights)

    def groups(self, number: int) -> list[list[str]]:
        """The groups when ``number`` are left, in the order of their first tasks.

        Raises:
            ValueError: The number is not from 1 to K.
        """
        if type(number) is not int or not 1 <= number <= len(self.tasks):
            raise ValueError(f"number={number!r} groups of {len(self.tasks)} tasks; give 1 to {len(self.tasks)}")
        clusters: dict[int, list[int]] = {task: [task] for task in range(len(self.tasks))}
        for join, (first, second) in enumerate(self.pairs[: len(self.tasks) - number]):
            clusters[len(self.tasks) + join] = sorted(clusters.pop(first) + clusters.pop(second))
        return [[self.tasks[task] for task in cluster] for cluster in sorted(clusters.values())]


def numbers_within(
    joins: Mapping[str, Joins], parameters: Mapping[str, int], budget: float, severity: float
) -> dict[str, int]:
    """The number of groups of each layer, when foes part within a budget of parameters.

    The join with the lowest mean cosine below the severity is undone first, in whichever layer it
    is. A join that does not fit into the rest of the budget stays, and so do the others of its
    layer, which cost the same. In layers of equal size this parts foes with the largest sum of
    1 - cosine at the joins that the budget allows.

    Args:
        joins: Layer -> its joins.
        parameters: Layer -> the number of its parameters, the cost of one more copy.
        budget: The number of parameters to add at most.
        severity: The severity S; joins of mean cosine >= S stay.
    """
    numbers = dict.fromkeys(joins, 1)
    foes = [
        (-height, layer)
        for layer, own in joins.items()
        for height in own.heights[len(own.tasks) - own.friends(severity) :]
    ]
    for _, layer in sorted(foes, key=lambda foe: foe[0]):
        if parameters[layer] <= budget:
            numbers[layer] += 1
            budget -= parameters[layer]
    return numbers


class TaskGroups(ABC):
    """The part of a conflict map that puts tasks into groups, for ``recon.branch``.

    Attributes:
        layers: The layer names.
        parameters: The number of parameters of each layer.
    """

    layers: tuple[str, ...]
    parameters: dict[str, int]

    @abstractmethod
    def joins(self, layer: str) -> Joins:
        """Return the joins of the tasks into clusters by their mean cosines in a layer.

        Raises:
            ValueError: There is no such layer, or the map is imported and has no cosines.
        """

    def groups(self, layer: str, severity: float, number: int | None = None) -> list[list[str]]:
        """Return the groups of tasks that share a copy of a layer.

        Tasks join by average linkage on 1 - mean cosine. Friends share: clusters join as long as
        the mean cosine between them is ``severity`` or more. Foes part.

        Args:
            layer: The layer.
            severity: The severity S, on the 0.01 grid in (-1, 0].
            number: The number of groups, whatever the severity; ``None`` lets the severity decide.

        Returns:
            The groups, in the order of their first tasks: the value of ``groups`` of
            :func:`recon.branch` for this layer.

        Raises:
            ValueError: The layer, the severity or the number is not possible, or the map is
                imported and has no cosines.

        Example:
            >>> import torch
            >>> from recon import ConflictAnalyzer
            >>> analyzer = ConflictAnalyzer(torch.nn.Linear(2, 2), tasks=["a", "b", "c"])
            >>> gramian = torch.tensor([[1.0, -0.5, 0.25], [-0.5, 1.0, -0.25], [0.25, -0.25, 1.0]])
            >>> analyzer.observe(gramian.unsqueeze(0))
            >>> cmap = analyzer.conflict_map()
            >>> cmap.groups("Linear", severity=-0.1), cmap.groups("Linear", severity=-0.1, number=1)
            ([['a', 'c'], ['b']], [['a', 'b', 'c']])
        """
        joins = self.joins(layer)
        friends = joins.friends(severity)
        return joins.groups(friends if number is None else number)

    def groups_within(
        self, growth: float, severity: float, layers: Sequence[str] | None = None
    ) -> dict[str, list[list[str]]]:
        """Return groups of tasks for the layers in which foes part first, within a budget.

        Every layer starts as one group. Then the foes with the lowest mean cosine part, in
        whichever layer they are, if one more copy of it fits. Where all layers are of one size, no
        other choice within the budget parts clusters with a larger sum of 1 - mean cosine.

        Args:
            growth: The budget, as growth of the parameters in all layers of the map: 0.05 is +5 %.
            severity: The severity S; clusters of tasks with mean cosine >= S stay together.
            layers: The layers that may be branched; ``None`` for all.

        Returns:
            Layer -> its groups, two or more, in the order of ``layers``: ``groups`` of
            :func:`recon.branch`, whose keys are the layers to branch.

        Raises:
            ValueError: The growth is negative, a layer is unknown, or the severity is not possible.

        Example:
            >>> import torch
            >>> from recon import ConflictAnalyzer
            >>> network = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
            >>> analyzer = ConflictAnalyzer(network, tasks=["a", "b"])
            >>> for_layer = [[[1.0, -c], [-c, 1.0]] for c in (0.2, 0.4)]
            >>> analyzer.observe(torch.tensor(for_layer))
            >>> analyzer.conflict_map().groups_within(growth=0.5, severity=-0.1)
            {'1': [['a'], ['b']]}
        """
        if not 0 <= growth < float("inf"):
            raise ValueError(f"growth={growth!r}; give a share of the parameters from 0 up: 0.05 is +5 %")
        chosen = self.layers if layers is None else tuple(layers)
        joins = {layer: self.joins(layer) for layer in chosen}
        budget = growth * sum(self.parameters.values())
        numbers = numbers_within(joins, self.parameters, budget, severity)
        return {layer: joins[layer].groups(number) for layer, number in numbers.items() if number > 1}


def check_layer(layer: str, layers: Sequence[str]) -> None:
    """Raise a ValueError if a map has no such layer."""
    if layer not in layers:
        raise unknown_name("layer", layer, layers, where="the conflict map")
