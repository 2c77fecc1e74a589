"""Conflict maps for people: one as a table, two against each other."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from recon.conflict.map import ConflictMap
from recon.conflict.measured import MeasuredMap


@dataclass(frozen=True)
class MapComparison:
    """How far two maps agree on where the conflict is.

    Attributes:
        severities: The severity at which each map was asked.
        spearman: Rank correlation of the scores over the common layers; NaN where a map scores them all the same.
        k: How many top layers of each map were compared.
        common: The layers in both maps, in the order of the first.
        top_common: The layers in the top k of both, in the order of the first's ranking.
        top_only_first, top_only_second: The layers in the top k of one map and not of the other.
        only_first, only_second: The layers that the other map does not have.
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
    """Return how far two maps agree.

    Args:
        first: A map.
        second: Another; they need not have all layers in common.
        severity: The severity at which both are asked. None asks an imported map at its own, and a measured map at
            that of the imported one beside it.
        k: How many top layers of each to compare.

    Raises:
        ValueError: The maps have fewer than two layers in common; no severity for two measured maps; a severity that
            an imported map does not know; k larger than a map.
    """
    common = _shared(first.layers, second.layers)
    if len(common) < 2:
        raise ValueError(f"{first!r} and {second!r} have {len(common)} layers in common; compare maps of one network")
    severities = (_severity(first, second, severity), _severity(second, first, severity))
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


def describe(cmap: ConflictMap, severity: float | None = None) -> str:
    """Return a map as a table, highest score first.

    The columns are rank, layer and score; of a measured map also the rate, the mean cosine over all pairs, the layer's
    parameters, and the share of the shared parameters that the layers down to this one hold together.

    Args:
        cmap: The map.
        severity: The severity of the scores; an imported map has its own for a default.
    """
    severity = _severity(cmap, cmap, severity)
    layers = cmap.top(len(cmap.layers), severity)
    scores = cmap.scores(severity)
    columns = [["rank", *(str(rank + 1) for rank in range(len(layers)))], ["layer", *layers]]
    columns += [["score", *(str(scores[layer]) for layer in layers)]]
    if isinstance(cmap, MeasuredMap):
        columns += _measured_columns(cmap, layers, severity)
    widths = [max(map(len, column)) for column in columns]
    lines = [f"{cmap!r}, severity {severity}"]
    for rank, layer, *numbers in zip(*columns, strict=True):
        cells = [rank.rjust(widths[0]), layer.ljust(widths[1])]
        cells += [number.rjust(width) for number, width in zip(numbers, widths[2:], strict=True)]
        lines.append("  ".join(cells))
    return "\n".join(lines)


def _measured_columns(cmap: MeasuredMap, layers: list[str], severity: float) -> list[list[str]]:
    rates, cosines, parameters = cmap.rates(severity), cmap.layer_cosines, cmap.parameters
    cumulative = accumulate(parameters[layer] for layer in layers)
    total = max(sum(parameters.values()), 1)
    return [
        ["rate", *(f"{rates[layer]:.4f}" for layer in layers)],
        ["cosine", *("-" if math.isnan(cosines[layer]) else f"{cosines[layer]:+.3f}" for layer in layers)],
        ["parameters", *(f"{parameters[layer]:,}" for layer in layers)],
        ["cumulative", *(f"{part / total:.2%}" for part in cumulative)],
    ]


def _severity(cmap: ConflictMap, other: ConflictMap, severity: float | None) -> float:
    for candidate in (severity, cmap.severity, other.severity):
        if candidate is not None:
            return candidate
    raise ValueError(f"no severity given for {cmap!r}; give one on the 0.01 grid in (-1, 0], such as -0.1")


def _spearman(first: list[int], second: list[int]) -> float:
    from scipy.stats import spearmanr

    if len(set(first)) < 2 or len(set(second)) < 2:
        return math.nan
    return float(spearmanr(first, second).statistic)


def _shared(first: Sequence[str], second: Sequence[str]) -> tuple[str, ...]:
    return tuple(layer for layer in first if layer in set(second))


def _without(first: Sequence[str], second: Sequence[str]) -> tuple[str, ...]:
    return tuple(layer for layer in first if layer not in set(second))
