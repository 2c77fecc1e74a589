import math

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from small_maps import imported, measured
from torch import nn

from recon.conflict import ConflictAnalyzer, ConflictMap, MeasuredMap, agree

FIRST = {"a": 9, "b": 7, "c": 7, "d": 2, "e": 1}
SECOND = {"a": 8, "b": 1, "c": 6, "d": 3, "e": 2}
THIRD = {"e": 5, "d": 4, "c": 3, "b": 2, "a": 1}


def searched(seed: int, steps: int = 300) -> MeasuredMap:
    """A search in which later layers conflict more often."""
    observing = ConflictAnalyzer(nn.Sequential(*(nn.Linear(2, 2) for _ in range(8))), ["a", "b"])
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        cosines = torch.where(torch.rand(8, generator=generator) < torch.arange(8) / 30, -0.5, 0.5)
        observing.observe(torch.eye(2) + cosines[:, None, None] * (1 - torch.eye(2)))
    return observing.conflict_map()


def test_each_pair_of_maps_is_compared_by_rank_and_top_layers() -> None:
    maps = {"first": measured(**FIRST), "second": measured(**SECOND), "third": imported(**THIRD)}
    agreement = agree(maps, severity=-0.1, k=2)
    assert agreement.names == ("first", "second", "third")
    assert agreement.layers == tuple("abcde")
    for i, one in enumerate((FIRST, SECOND, THIRD)):
        for j, other in enumerate((FIRST, SECOND, THIRD)):
            expected = spearmanr([one[layer] for layer in "abcde"], [other[layer] for layer in "abcde"]).statistic
            assert agreement.spearman[i, j] == pytest.approx(expected)
    assert agreement.overlap.tolist() == [[2, 1, 0], [1, 2, 0], [0, 0, 2]]
    assert np.isnan(agreement.intervals).all()


def test_chance_is_that_of_two_random_sets() -> None:
    agreement = agree({"first": measured(**FIRST), "second": measured(**SECOND)}, severity=-0.1, k=2)
    assert agreement.chance == pytest.approx(0.8)
    assert agreement.chance_of(0) == pytest.approx(1)
    assert agreement.chance_of(1) == pytest.approx(1 - 3 / 10)  # of 10 pairs, 3 lack both
    assert agreement.chance_of(2) == pytest.approx(1 / 10)


def test_intervals_are_of_searches_with_steps_and_narrow_with_their_number() -> None:
    short = agree({"one": searched(0, 60), "other": searched(1, 60)}, severity=-0.1, k=3)
    long = agree({"one": searched(0, 1000), "other": searched(1, 1000)}, severity=-0.1, k=3)
    for agreement in (short, long):
        low, high = agreement.intervals[0, 1]
        assert low < high
        assert np.isnan(agreement.intervals[0, 0]).all()
        assert agreement.intervals[0, 1].tolist() == agreement.intervals[1, 0].tolist()
    assert np.diff(long.intervals[0, 1]) < np.diff(short.intervals[0, 1])


def test_an_interval_is_around_the_correlation_of_the_maps_and_reaches_to_one_at_most() -> None:
    for seed in range(0, 12, 2):
        agreement = agree({"one": searched(seed, 60), "other": searched(seed + 1, 60)}, severity=-0.1, k=3)
        low, high = agreement.intervals[0, 1]
        assert -1 <= low < agreement.spearman[0, 1] < high <= 1
    observing = ConflictAnalyzer(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), ["a", "b"])
    for _ in range(8):
        observing.observe(torch.stack([2 * torch.eye(2) - 1, torch.ones(2, 2)]))
    sure = observing.conflict_map()
    assert agree({"one": sure, "other": sure}, severity=-0.1, k=1).intervals[0, 1].tolist() == [1, 1]


def test_one_map_with_steps_gives_an_interval_and_too_few_steps_give_none() -> None:
    published = imported(**{str(layer): layer for layer in range(8)})
    mixed = agree({"search": searched(0), "published": published, "few": searched(0, 7)}, severity=None, k=3)
    assert np.isfinite(mixed.intervals[0, 1]).all() and np.isfinite(mixed.intervals[0, 2]).all()
    assert np.isnan(mixed.intervals[1, 2]).all()


def test_layers_that_a_map_lacks_are_left_out() -> None:
    agreement = agree({"one": imported(x=9, a=3, b=2, c=1), "other": imported(c=1, b=2, a=3)}, severity=None, k=2)
    assert agreement.layers == ("a", "b", "c")
    assert agreement.spearman[0, 1] == pytest.approx(1)
    assert agreement.overlap[0, 1] == 2


def test_equal_scores_everywhere_have_no_correlation() -> None:
    maps = {"flat": imported(a=1, b=1), "other": imported(a=1, b=2)}
    assert math.isnan(agree(maps, severity=None, k=1).spearman[0, 1])


def test_an_agreement_reads_as_a_table() -> None:
    maps = {"first": measured(**FIRST), "second": measured(**SECOND), "third": imported(**THIRD)}
    head, titles, *rows = str(agree(maps, severity=None, k=2)).splitlines()
    assert head == ("3 maps, 5 common layers, severity -0.1; two random sets of 2 have 0.8 in common on average")
    assert titles.split() == ["maps", "Spearman", "95", "%", "interval", "of", "top", "2", "by", "chance:", "p"]
    assert rows[0].split() == ["first", "second", "0.564", "-", "1", "0.7"]
    assert len(rows) == 3
    of_two = agree({"one": searched(0), "other": searched(1)}, severity=-0.1, k=3).of_two().splitlines()
    assert of_two[0].startswith("common by chance      1.1 on average; ")
    assert of_two[1].startswith("Spearman, 95 %        0.")


def test_comparisons_that_mean_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="1 map cannot be compared; give two or more"):
        agree({"one": measured(**FIRST)}, severity=-0.1, k=1)
    with pytest.raises(ValueError, match="the 2 maps have 1 layer in common"):
        agree({"one": imported(a=1, b=2), "other": imported(a=1, c=2)}, severity=None, k=1)
    with pytest.raises(ValueError, match="no severity given"):
        agree({"one": measured(**FIRST), "other": measured(**SECOND)}, severity=None, k=1)
    with pytest.raises(ValueError, match="top=6 of 5 layers"):
        agree({"one": measured(**FIRST), "other": measured(**SECOND)}, severity=-0.1, k=6)


def test_published_rankings_agree_with_themselves() -> None:
    cmap = ConflictMap.load("nyuv2-mtan")
    assert agree({"one": cmap, "other": cmap}, severity=None, k=15).overlap[0, 1] == 15
