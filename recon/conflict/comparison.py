"""The agreement of two conflict maps."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from recon.conflict.map import ConflictMap
from recon.conflict.severity import first_severity
from recon.gradients.layers import number_of_layers


@dataclass(frozen=True)
class MapComparison:
    """The agreement of two maps on the layers that conflict.

    Attributes:
        severities: The severity at which each map was asked.
        spearman: Rank correlation of the scores over the common layers; NaN if all scores of a map
            are equal.
        k: The number of top layers of each map that were compared.
        common: The layers in both maps, in the order of the first.
        top_common: The layers in the top k of both, in the order of the first's ranking.
        top_only_first, top_only_second: The layers in the top k of one map and not of the other.
        only_first, only_second: The layers that the other map does not have.

    Example:
        >>> nyuv2 = ConflictMap.load("nyuv2-mtan")
        >>> print(compare(nyuv2, nyuv2, severity=None, k=15))
        severity              -0.02
        common layers         72
        Spearman of scores    1.000
        common to the top 15  15
    """

    severities: tuple[float, float]
    spearman: float
    k: int
    common: tuple[str, ...]
    top_common: tuple[str, ...]
    top_only_first: tuple[str, ...]
    top_only_second: tuple[str, ...]
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]

    def __str__(self) -> str:
        first, second = self.severities
        lines = [f"severity              {first}" + (f" and {second}" if first != second else "")]
        lines += [f"common layers         {len(self.common)}"]
        lines += [f"Spearman of scores    {self.spearman:.3f}"]
        lines += [f"common to the top {self.k:<3} {len(self.top_common)}"]
        named = {
            f"top {self.k} of the first only": self.top_only_first,
            f"top {self.k} of the second only": self.top_only_second,
            "layers of the first only": self.only_first,
            "layers of the second only": self.only_second,
        }
        return "\n".join(lines + [f"{title}: {', '.join(layers)}" for title, layers in named.items() if layers])


def compare(first: ConflictMap, second: ConflictMap, severity: float | None, k: int) -> MapComparison:
    """Compare the scores and the top layers of two maps.

    Args:
        first: A map.
        second: Another map; some layers may be in one map only.
        severity: The severity at which both maps are asked. None asks an imported map at its own
            severity, and a measured map at that of the imported one beside it.
        k: The number of top layers of each map to compare.

    Raises:
        ValueError: The maps have fewer than two layers in common; two measured maps come without a
            severity; an imported map does not know the severity; or k is larger than a map.

    Example:
        >>> first = ConflictMap.load("multi-fashion-mnist-resnet18")
        >>> comparison = compare(first, first, severity=None, k=3)
        >>> comparison.top_common
        ('bn1', 'layer1.0.bn1', 'layer1.1.bn1')
    """
    common = _shared(first.layers, second.layers)
    if len(common) < 2:
        raise ValueError(
            f"{first!r} and {second!r} have {number_of_layers(common)} in common; compare maps of one network"
        )
    severities = (
        first_severity((severity, first.severity, second.severity), first),
        first_severity((severity, second.severity, first.severity), second),
    )
    tops = first.top(k, severities[0]), second.top(k, severities[1])
    scores = first.scores(severities[0]), second.scores(severities[1])
    return MapComparison(
        severities=severities,
        spearman=_spearman([scores[0][layer] for layer in common], [scores[1][layer] for layer in common]),
        k=k,
        common=common,
        top_common=_shared(*tops),
        top_only_first=_without(*tops),
        top_only_second=_without(*reversed(tops)),
        only_first=_without(first.layers, common),
        only_second=_without(second.layers, common),
    )


def _spearman(first: list[int], second: list[int]) -> float:
    from scipy.stats import spearmanr

    if len(set(first)) < 2 or len(set(second)) < 2:
        return math.nan
    return float(spearmanr(first, second).statistic)


def _shared(first: Sequence[str], second: Sequence[str]) -> tuple[str, ...]:
    return tuple(layer for layer in first if layer in set(second))


def _without(first: Sequence[str], second: Sequence[str]) -> tuple[str, ...]:
    return tuple(layer for layer in first if layer not in set(second))
