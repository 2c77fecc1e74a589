"""The agreement of several conflict maps, against chance, and how sure it is."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from recon.conflict.certainty import resampled_scores
from recon.conflict.map import ConflictMap
from recon.conflict.measured import MeasuredMap
from recon.conflict.ranking import check_number_of_layers, top_layers
from recon.conflict.severity import first_severity
from recon.conflict.stretches import LEAST
from recon.gradients.layers import number_of_layers

SAMPLES = 400
"""Searches that the bootstrap draws for an interval."""


@dataclass(frozen=True)
class MapAgreement:
    """The agreement of N maps on the layers that conflict, pair by pair.

    Attributes:
        names: The names of the maps.
        severities: The severity at which each map was asked.
        layers: The layers that all maps have, in the order of the first.
        k: The number of top layers that were compared.
        spearman: (N, N), rank correlation of the scores; NaN if all scores of a map are equal.
        intervals: (N, N, 2), its 95 % interval for searches of this length, by bootstrap over the
            stretches of steps of both maps; NaN where neither has any. A map without stretches is
            taken as certain.
        overlap: (N, N), the number of layers in the top k of both.

    Example:
        >>> published = ConflictMap.load("nyuv2-mtan")
        >>> agreement = agree({"a": published, "b": published}, severity=None, k=15)
        >>> agreement.overlap.tolist(), round(agreement.chance, 2)
        ([[15, 15], [15, 15]], 3.12)
    """

    names: tuple[str, ...]
    severities: tuple[float, ...]
    layers: tuple[str, ...]
    k: int
    spearman: NDArray[np.float64]
    intervals: NDArray[np.float64]
    overlap: NDArray[np.int64]

    @property
    def chance(self) -> float:
        """The mean overlap of two sets of k layers that are drawn at random."""
        return self.k**2 / len(self.layers)

    def chance_of(self, overlap: int) -> float:
        """The probability that two random sets of k layers have so many in common, or more.

        Args:
            overlap: The number of common layers.

        Example:
            >>> published = ConflictMap.load("nyuv2-mtan")
            >>> agreement = agree({"a": published, "b": published}, severity=None, k=15)
            >>> round(agreement.chance_of(5), 3)
            0.162
        """
        from scipy.stats import hypergeom

        return float(hypergeom.sf(overlap - 1, len(self.layers), self.k, self.k))

    def of_two(self) -> str:
        """Return as text what chance and bootstrap say of the first two maps."""
        (low, high), common = self.intervals[0, 1], int(self.overlap[0, 1])
        lines = [
            f"common by chance      {self.chance:.1f} on average; {common} or more: p = {self.chance_of(common):.1g}"
        ]
        if not np.isnan(low):
            lines += [f"Spearman, 95 %        {low:.3f} to {high:.3f} (bootstrap over stretches of steps)"]
        return "\n".join(lines)

    def __str__(self) -> str:
        from tabulate import tabulate

        rows = [["maps", "", "Spearman", "95 % interval", f"of top {self.k}", "by chance: p"]]
        for i, j in combinations(range(len(self.names)), 2):
            low, high = self.intervals[i, j]
            interval = "-" if np.isnan(low) else f"{low:.3f} to {high:.3f}"
            common = int(self.overlap[i, j])
            p = f"{self.chance_of(common):.1g}"
            rows.append([self.names[i], self.names[j], f"{self.spearman[i, j]:.3f}", interval, str(common), p])
        severities = ", ".join(map(str, dict.fromkeys(self.severities)))
        head = f"{len(self.names)} maps, {len(self.layers)} common layers, severity {severities}"
        table = tabulate(rows, tablefmt="plain", disable_numparse=True, colalign=("left", "left", *["right"] * 4))
        return f"{head}; two random sets of {self.k} have {self.chance:.1f} in common on average\n{table}"


def agree(maps: Mapping[str, ConflictMap], severity: float | None, k: int) -> MapAgreement:
    """Compare the scores and the top layers of any number of maps.

    Args:
        maps: Name -> map. Layers that some map lacks are left out.
        severity: The severity at which all maps are asked. None asks an imported map at its own,
            and a measured map at that of the first imported one.
        k: The number of top layers of each map to compare.

    Raises:
        ValueError: There are fewer than two maps, or two common layers; k is larger than the number
            of common layers; or a severity is not given or not known.

    Example:
        >>> published = ConflictMap.load("cityscapes-segnet")
        >>> agree({"a": published, "b": published}, severity=None, k=3).spearman[0, 1].round(3)
        np.float64(1.0)
    """
    if len(maps) < 2:
        raise ValueError(f"{len(maps)} map cannot be compared; give two or more")
    first = next(iter(maps.values()))
    layers = tuple(layer for layer in first.layers if all(layer in one.layers for one in maps.values()))
    if len(layers) < 2:
        raise ValueError(f"the {len(maps)} maps have {number_of_layers(layers)} in common; compare maps of one network")
    check_number_of_layers(k, layers)
    imported = next((one.severity for one in maps.values() if one.severity is not None), None)
    severities = tuple(first_severity((severity, one.severity, imported), one) for one in maps.values())
    all_scores = [one.scores(own) for one, own in zip(maps.values(), severities, strict=True)]
    scores = [[own[layer] for layer in layers] for own in all_scores]
    tops = [set(top_layers(dict(zip(layers, own, strict=True)), k)) for own in scores]
    return MapAgreement(
        tuple(maps),
        severities,
        layers,
        k,
        _correlations(np.array(scores)),
        _intervals(list(maps.values()), severities, layers, np.array(scores)),
        np.array([[len(one & other) for other in tops] for one in tops]),
    )


def _intervals(
    maps: list[ConflictMap], severities: tuple[float, ...], layers: tuple[str, ...], scores: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(N, N, 2): the ends of the intervals.

    Drawing anew adds noise to that of the search itself, so correlations of drawn searches are
    lower. Their spread counts, around the correlation of the maps, on Fisher's scale.
    """
    drawn = [own[None].repeat(SAMPLES, axis=0) for own in scores]
    known = np.zeros(len(maps), dtype=bool)
    for i, one in enumerate(maps):
        if isinstance(one, MeasuredMap) and one.stretches is not None and len(one.stretches.steps) >= LEAST:
            places = [one.layers.index(layer) for layer in layers]
            drawn[i] = resampled_scores(one, severities[i], SAMPLES, seed=i)[:, places]
            known[i] = True
    correlations = np.stack([_correlations(np.stack(own)) for own in zip(*drawn, strict=True)])
    most = 1 - 3 / (len(layers) ** 3 - len(layers))  # between 1 and the highest correlation below it
    with np.errstate(invalid="ignore"):
        found = np.arctanh(correlations.clip(-most, most))
        ends = np.percentile(found - found.mean(axis=0), [2.5, 97.5], axis=0)
        bounds = np.moveaxis(np.tanh(np.arctanh(_correlations(scores).clip(-most, most)) + ends), 0, -1)
    bounds = np.where(abs(bounds) < most * (1 - 1e-12), bounds, np.sign(bounds))
    bounds[~(known[:, None] | known)] = np.nan
    bounds[np.diag_indices(len(maps))] = np.nan
    return bounds


def _correlations(scores: NDArray[np.int64]) -> NDArray[np.float64]:
    """(N, N): Spearman's rank correlation of each two rows."""
    from scipy.stats import rankdata

    ranks = rankdata(scores, axis=1)
    ranks -= ranks.mean(axis=1, keepdims=True)
    norms = np.sqrt((ranks**2).sum(axis=1))
    with np.errstate(invalid="ignore"):
        return ranks @ ranks.T / np.outer(norms, norms)
