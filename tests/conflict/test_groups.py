"""Groups of tasks by mean cosines, held against a clustering written out from its definition."""

from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from recon import ConflictAnalyzer, ConflictMap
from recon.conflict import MeasuredMap, describe_groups

TASKS = ("a", "b", "c", "d", "e")


def map_of(*gramians: torch.Tensor, tasks: tuple[str, ...] = TASKS) -> MeasuredMap:
    network = torch.nn.Sequential(*(torch.nn.Linear(2, 2 + i) for i in range(len(gramians))))
    analyzer = ConflictAnalyzer(network, tasks)
    analyzer.observe(torch.stack(gramians))
    return analyzer.conflict_map()


def random_gramian(seed: int, tasks: int = len(TASKS)) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.nn.functional.normalize(torch.randn(tasks, 4, generator=generator, dtype=torch.float64), dim=1)
    return vectors @ vectors.T


def clusters(cosines: torch.Tensor, number: int | None, severity: float) -> tuple[list[list[int]], list[float]]:
    """Join the two clusters of highest mean cosine until so many are left, or until foes are left."""
    found, means = [[task] for task in range(len(cosines))], []
    while len(found) > (number or 1):
        means = [cosines[first][:, second].mean().item() for first, second in combinations(found, 2)]
        best = int(np.argmax(means))
        if number is None and means[best] < severity:
            break
        first, second = list(combinations(found, 2))[best]
        found = [*(own for own in found if own not in (first, second)), sorted(first + second)]
    return sorted(found), means


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize(
    ("number", "severity"), [(None, -0.1), (None, 0.0), (None, -0.5), *((n, 0.0) for n in range(1, 6))]
)
def test_groups_are_those_of_average_linkage(seed: int, number: int | None, severity: float) -> None:
    gramian = random_gramian(seed)
    expected, _ = clusters(gramian, number, severity)
    found = map_of(gramian).groups("0", severity, number)
    assert found == [[TASKS[task] for task in group] for group in expected]


def test_exactly_so_many_groups_also_where_all_cosines_are_equal() -> None:
    cmap = map_of(torch.full((5, 5), 0.5) + 0.5 * torch.eye(5))
    assert [len(cmap.groups("0", 0.0, number)) for number in range(1, 6)] == [1, 2, 3, 4, 5]
    assert cmap.groups("0", 0.0) == [[*TASKS]]


def test_a_mean_cosine_of_just_the_severity_is_a_friend() -> None:
    cmap = map_of(torch.tensor([[1.0, -0.1], [-0.1, 1.0]], dtype=torch.float64), tasks=("a", "b"))
    assert cmap.groups("0", -0.1) == [["a", "b"]]
    assert cmap.groups("0", -0.09) == [["a"], ["b"]]


def test_more_groups_part_groups_of_fewer() -> None:
    cmap = map_of(random_gramian(3))
    for coarse, fine in pairwise(cmap.groups("0", 0.0, number) for number in range(1, 6)):
        assert all(any(set(part) <= set(whole) for whole in coarse) for part in fine)


def test_a_pair_that_was_never_observed_counts_as_neither_friend_nor_foe() -> None:
    gramian = torch.tensor([[1.0, 0.0, -0.5], [0.0, 0.0, 0.0], [-0.5, 0.0, 1.0]], dtype=torch.float64)
    assert map_of(gramian, tasks=("a", "b", "c")).groups("0", -0.1, 2) == [["a", "b"], ["c"]]


def test_a_budget_parts_foes_of_lowest_cosine_first_and_never_friends() -> None:
    cmap = map_of(random_gramian(0), random_gramian(1), random_gramian(2))
    sizes = cmap.parameters
    total = sum(sizes.values())
    everything = cmap.groups_within(growth=100.0, severity=-0.1)
    assert everything == {layer: groups for layer in cmap.layers if len(groups := cmap.groups(layer, -0.1)) > 1}
    assert cmap.groups_within(growth=0.0, severity=-0.1) == {}
    spent = []
    for growth in (0.2, 0.5, 1.0, 2.0):
        groups = cmap.groups_within(growth, severity=-0.1)
        spent.append(sum(sizes[layer] * (len(own) - 1) for layer, own in groups.items()))
        assert spent[-1] <= growth * total
        assert all(own == cmap.groups(layer, -0.1, len(own)) for layer, own in groups.items())
    assert spent == sorted(spent) and 0 < spent[1] < spent[-1]


@pytest.mark.parametrize("seed", range(10))
def test_a_budget_is_best_for_layers_of_one_size(seed: int) -> None:
    network = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    analyzer = ConflictAnalyzer(network, TASKS)
    analyzer.observe(torch.stack([random_gramian(2 * seed), random_gramian(2 * seed + 1)]))
    cmap = analyzer.conflict_map()
    heights = [sorted(cmap.joins(layer).heights, reverse=True) for layer in cmap.layers]
    foes = [sum(height > 1 for height in own) for own in heights]

    def value(*copies: int) -> float:
        return sum(sum(own[:number]) for own, number in zip(heights, copies, strict=True))

    for budget in range(1, 6):
        groups = cmap.groups_within(budget / 2, severity=0.0)
        found = [len(groups.get(layer, [[]])) - 1 for layer in cmap.layers]
        copies = min(budget, sum(foes))
        assert sum(found) == copies
        splits = [
            (first, copies - first) for first in range(copies + 1) if first <= foes[0] and copies - first <= foes[1]
        ]
        assert value(*found) == pytest.approx(max(value(*split) for split in splits))


def test_only_the_layers_that_are_named_are_parted() -> None:
    cmap = map_of(random_gramian(0), random_gramian(1))
    assert list(cmap.groups_within(10.0, -0.1, layers=["1"])) == ["1"]


def test_the_table_shows_numbers_and_groups() -> None:
    lines = describe_groups(map_of(random_gramian(0)), ["0"], -0.1, 5).splitlines()
    assert [line.split() for line in lines] == [
        ["layer", "number", "groups"],
        ["0", "5", "a", "|", "b", "|", "c", "|", "d", "|", "e"],
    ]


def test_saved_maps_have_the_same_groups(tmp_path: Path) -> None:
    cmap = map_of(random_gramian(7))
    cmap.save(tmp_path / "map.json")
    for number in (None, 2, 3):
        assert ConflictMap.load(tmp_path / "map.json").groups("0", -0.1, number) == cmap.groups("0", -0.1, number)


def test_bad_questions_are_refused() -> None:
    cmap = map_of(random_gramian(0))
    with pytest.raises(ValueError, match="unknown layer '00' in the conflict map; nearest: '0'"):
        cmap.groups("00", -0.1)
    for number in (0, 6, True, 2.0):
        with pytest.raises(ValueError, match=r"number=.* groups of 5 tasks; give 1 to 5"):
            cmap.groups("0", -0.1, number)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"not on the 0.01 grid"):
        cmap.groups("0", 0.3)
    with pytest.raises(ValueError, match=r"growth=-1; give a share"):
        cmap.groups_within(-1, -0.1)
    published = ConflictMap.load("nyuv2-mtan")
    with pytest.raises(ValueError, match="imported map has scores without the cosines of task pairs; search"):
        published.groups(published.layers[0], -0.02)
