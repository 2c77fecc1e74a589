import math

import pytest
from scipy.stats import spearmanr
from small_maps import imported, measured

from recon.conflict import ConflictMap, compare

FIRST = {"a": 9, "b": 7, "c": 7, "d": 2, "e": 1}
SECOND = {"a": 8, "b": 1, "c": 6, "d": 3, "e": 2}


@pytest.mark.parametrize(
    ("first", "second", "severity"),
    [
        (measured(**FIRST), measured(**SECOND), -0.1),
        (measured(**FIRST), imported(**SECOND), None),
        (imported(**FIRST), measured(**SECOND), None),
        (imported(**FIRST), imported(**SECOND), -0.1),
    ],
)
def test_maps_are_compared_by_rank_and_top_layers(
    first: ConflictMap, second: ConflictMap, severity: float | None
) -> None:
    comparison = compare(first, second, severity, k=3)
    assert comparison.severities == (-0.1, -0.1)
    assert comparison.spearman == pytest.approx(spearmanr(list(FIRST.values()), list(SECOND.values())).statistic)
    assert comparison.top_common == ("a", "c")
    assert comparison.top_only_first == ("b",)
    assert comparison.top_only_second == ("d",)
    assert comparison.common == tuple("abcde")
    assert comparison.only_first == comparison.only_second == ()


def test_layers_of_one_map_only_are_listed_and_left_out_of_the_correlation() -> None:
    comparison = compare(imported(x=100, a=3, b=2, c=1), imported(a=30, b=20, c=10, y=0), -0.1, k=2)
    assert comparison.spearman == pytest.approx(1.0)
    assert comparison.only_first == ("x",) and comparison.only_second == ("y",)
    assert comparison.top_only_first == ("x",) and comparison.top_only_second == ("b",)


def test_imported_maps_of_different_severities_are_each_asked_at_their_own() -> None:
    comparison = compare(imported(-0.1, a=2, b=1), imported(0.0, a=1, b=2), None, k=1)
    assert comparison.severities == (-0.1, 0.0)
    assert comparison.spearman == pytest.approx(-1.0)
    assert str(comparison).startswith("severity              -0.1 and 0.0\n")


def test_equal_scores_everywhere_have_no_correlation() -> None:
    assert math.isnan(compare(imported(a=1, b=1), imported(a=1, b=2), None, k=1).spearman)


def test_a_comparison_reads_as_text() -> None:
    assert str(compare(imported(x=100, a=3, b=2, c=1), imported(a=30, b=20, c=10), None, k=2)).splitlines() == [
        "severity              -0.1",
        "common layers         3",
        "Spearman of scores    1.000",
        "common to the top 2   1",
        "top 2 of the first only: x",
        "top 2 of the second only: b",
        "layers of the first only: x",
    ]


def test_comparisons_that_mean_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="1 layer in common; compare maps of one network"):
        compare(imported(a=1, b=2), imported(a=1, c=2), None, k=1)
    with pytest.raises(ValueError, match="no severity given"):
        compare(measured(**FIRST), measured(**SECOND), None, k=1)
    with pytest.raises(ValueError, match=r"severity -0\.2 of a map imported at severity -0\.1"):
        compare(measured(**FIRST), imported(**SECOND), -0.2, k=1)
    with pytest.raises(ValueError, match="top=6 of 5 layers"):
        compare(measured(**FIRST), imported(**SECOND), None, k=6)
