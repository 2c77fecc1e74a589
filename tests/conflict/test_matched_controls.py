"""Layers drawn at random at a given price."""

from collections import Counter
from collections.abc import Callable, Collection
from itertools import combinations

import pytest

from recon.conflict import ConflictMap
from recon.conflict.matched_controls import TOLERANCE, random_layers_of_price, random_layers_of_size

SIZES = {"conv1": 40, "bn1": 8, "conv2": 80, "bn2": 8, "conv3": 32, "bn3": 16, "fc": 300}
BEHIND = {"conv1": {1, 2, 3, 4}, "shortcut": {3, 4}, "conv2": {2, 4}, "bn": {2, 4}, "fc": {4}}
OPERATIONS = {1: 50, 2: 30, 3: 10, 4: 20}


def total(layers: Collection[str]) -> int:
    return sum(SIZES[layer] for layer in layers)


def operations(layers: Collection[str]) -> int:
    """The operations behind any of the layers, some of which run beside each other."""
    return sum(OPERATIONS[place] for place in set().union(*(BEHIND[layer] for layer in layers)))


def sets(layers: Collection[str]) -> list[tuple[str, ...]]:
    return [chosen for number in range(1, len(layers)) for chosen in combinations(layers, number)]


def check_equally_likely(drawn: list[tuple[str, ...]], admissible: Collection[tuple[str, ...]]) -> None:
    """Each count is within five standard deviations of the mean."""
    counts, mean = Counter(drawn), len(drawn) / len(admissible)
    assert counts.keys() == set(admissible)
    assert all(abs(number - mean) < 5 * mean**0.5 for number in counts.values())


@pytest.mark.parametrize(("size", "number"), [(48, 4), (120, 9), (400, 32)])
def test_all_sets_of_about_a_size_are_equally_likely_whatever_their_number_of_layers(size: int, number: int) -> None:
    admissible = [chosen for chosen in sets(SIZES) if abs(total(chosen) - size) <= 0.1 * size]
    assert len(admissible) == number
    drawn = [tuple(random_layers_of_size(SIZES, size, seed, tolerance=0.1)) for seed in range(1500)]
    check_equally_likely(drawn, admissible)


@pytest.mark.parametrize("price", [60, 110])
def test_all_sets_of_about_a_price_are_equally_likely(price: int) -> None:
    admissible = [chosen for chosen in sets(BEHIND) if abs(operations(chosen) - price) <= 0.1 * price]
    assert len(admissible) > 3
    drawn = [
        tuple(random_layers_of_price(list(BEHIND), operations, price, seed, tolerance=0.1)) for seed in range(1500)
    ]
    check_equally_likely(drawn, admissible)


def test_the_set_that_is_controlled_is_never_drawn() -> None:
    selected = ("conv1", "bn1")
    drawn = {tuple(random_layers_of_size(SIZES, total(selected), seed, selected)) for seed in range(100)}
    assert drawn == {chosen for chosen in sets(SIZES) if total(chosen) == 48} - {selected}
    price = operations(["conv2"])
    found = {tuple(random_layers_of_price(list(BEHIND), operations, price, seed, ["conv2"])) for seed in range(100)}
    assert found == {chosen for chosen in sets(BEHIND) if operations(chosen) == price} - {("conv2",)}


def test_the_same_seed_draws_the_same_set() -> None:
    for seed in range(5):
        assert random_layers_of_size(SIZES, 400, seed) == random_layers_of_size(SIZES, 400, seed)
        once, again = (random_layers_of_price(list(BEHIND), operations, 110, seed) for _ in range(2))
        assert once == again


def test_the_tolerance_doubles_until_there_is_another_set() -> None:
    two = {"a": 100, "b": 130}
    assert random_layers_of_size(two, 100, seed=0, other_than=["a"]) == ["b"]  # 30 % off: 2, 4, 8, 16, 32 %
    assert random_layers_of_price(["a", "b"], total_of(two), 100, seed=0, other_than=["a"]) == ["b"]
    assert random_layers_of_price(["a", "b"], total_of({"a": 0, "b": 7}), 0, seed=0, other_than=["a"]) == ["b"]


def total_of(sizes: dict[str, int]) -> Callable[[Collection[str]], int]:
    return lambda layers: sum(sizes[layer] for layer in layers)


def test_of_a_network_as_large_as_the_papers_the_first_tolerance_is_kept() -> None:
    from recon.gradients.layers import shared_layers
    from recon.models import ResNet18

    sizes = {layer: sum(p.numel() for p in own) for layer, own in shared_layers(ResNet18(width=16)).items()}
    top = ConflictMap.load("multi-fashion-mnist-resnet18").top(25, severity=-0.1)
    size = sum(sizes[layer] for layer in top)
    numbers = set()
    for seed in range(10):
        drawn = random_layers_of_size(sizes, size, seed, other_than=top)
        assert abs(sum(sizes[layer] for layer in drawn) - size) <= TOLERANCE * size
        assert drawn == sorted(drawn, key=list(sizes).index)
        numbers.add(len(drawn))
    assert len(numbers) > 2


def test_a_single_layer_leaves_no_other_set() -> None:
    with pytest.raises(ValueError, match="1 layer to draw from leaves no other set; give two or more"):
        random_layers_of_size({"fc": 3}, 3, seed=0)
