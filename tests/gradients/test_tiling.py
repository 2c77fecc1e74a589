"""Tiles bring all pairs together, within the memory, at no more cost than simple divisions."""

import pytest

from recon.gradients.tiling import Stretch, Tiling

SIZES = [5, 40, 40, 3, 100, 1, 30, 30, 60, 2, 2, 200, 10]
STRETCH = Stretch(SIZES, ends=[2 * index + 2 for index in range(len(SIZES))], start=0)
GRADIENT = sum(SIZES)


@pytest.mark.parametrize("tasks", [2, 3, 10, 40])
@pytest.mark.parametrize("numbers", [0, 10, 60, 250, GRADIENT])
def test_every_pair_of_tasks_meets_once(tasks: int, numbers: int) -> None:
    tiling = Tiling(tasks, GRADIENT)
    held, met = tiling.held(numbers), []
    for first in tiling.first_tasks(numbers):
        for task in range(first, tasks):
            met += [(earlier, task) for earlier in range(first, min(first + held, task))]
    assert sorted(met) == [(i, j) for i in range(tasks) for j in range(i + 1, tasks)]


@pytest.mark.parametrize("tasks", [2, 3, 10, 40])
def test_groups_keep_to_the_memory_unless_one_parameter_exceeds_it(tasks: int) -> None:
    tiling, begin = Tiling(tasks, GRADIENT), 0
    for end in tiling.groups(STRETCH):
        numbers = sum(SIZES[begin:end])
        assert (tiling.held(numbers) + 1) * numbers <= GRADIENT or end == begin + 1
        begin = end
    assert begin == len(SIZES)


@pytest.mark.parametrize("tasks", [2, 3, 10, 40])
def test_the_division_costs_no_more_than_one_group_or_one_for_each_parameter(tasks: int) -> None:
    tiling = Tiling(tasks, 2 * GRADIENT)
    cost = tiling.cost(STRETCH)
    assert cost <= tiling._cost(STRETCH, [len(SIZES)])
    assert cost <= tiling._cost(STRETCH, range(1, len(SIZES) + 1))


def test_room_for_all_tasks_costs_one_backward_each() -> None:
    assert Tiling(10, 10 * GRADIENT).cost(STRETCH) == 10 * STRETCH.ends[-1]


def test_stops_pay_where_they_are_small_and_not_where_they_are_large() -> None:
    tiling, everywhere = Tiling(10, GRADIENT), [end + 1 for end in STRETCH.ends]
    assert tiling.cost_with_stops(STRETCH, everywhere, kept=1) < tiling.cost(STRETCH)
    assert tiling.cost_with_stops(STRETCH, everywhere, kept=GRADIENT // 4) == float("inf")
    counts = [count for count, _ in tiling.stops(STRETCH, everywhere, kept=1)]
    assert counts == sorted(set(counts))
    assert 0 < counts[0] <= counts[-1] < len(SIZES)
