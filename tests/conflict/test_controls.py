from collections import Counter

import pytest

from recon.conflict import first_layers, last_layers, random_layers

LAYERS = ("conv1", "bn1", "layer1.conv", "layer1.bn", "fc")


def test_random_layers_are_reproducible_different_and_in_forward_order() -> None:
    for seed in range(20):
        chosen = random_layers(LAYERS, 3, seed)
        assert chosen == random_layers(LAYERS, 3, seed)
        assert len(set(chosen)) == 3
        assert chosen == sorted(chosen, key=LAYERS.index)


def test_random_layers_are_equally_likely() -> None:
    counts = Counter(layer for seed in range(2000) for layer in random_layers(LAYERS, 2, seed))
    assert set(counts) == set(LAYERS)
    assert all(abs(number - 800) < 120 for number in counts.values())


def test_first_and_last_layers_are_in_forward_order() -> None:
    assert first_layers(LAYERS, 2) == ["conv1", "bn1"]
    assert last_layers(LAYERS, 2) == ["layer1.bn", "fc"]
    assert first_layers(LAYERS, 5) == last_layers(LAYERS, 5) == random_layers(LAYERS, 5, seed=0) == list(LAYERS)


def test_another_set_is_drawn_in_place_of_one_that_is_no_control() -> None:
    pairs = Counter(tuple(random_layers(LAYERS[:3], 1, seed, other_than=["bn1"])) for seed in range(300))
    assert pairs.keys() == {("conv1",), ("layer1.conv",)}
    assert all(abs(number - 150) < 50 for number in pairs.values())
    for seed in range(20):  # otherwise the drawing is as it was
        drawn = random_layers(LAYERS, 2, seed)
        assert random_layers(LAYERS, 2, seed, other_than=drawn[:1]) == drawn


def test_where_there_is_no_other_set_that_is_said() -> None:
    with pytest.raises(ValueError, match="all 2 layers are selected, and there is no other set of 2 to draw"):
        random_layers(LAYERS[:2], 2, seed=0, other_than=["bn1", "conv1"])


@pytest.mark.parametrize("k", [-1, 0, 6])
def test_numbers_that_cannot_be_selected_are_refused(k: int) -> None:
    for select in (first_layers, last_layers, lambda layers, k: random_layers(layers, k, seed=0)):
        with pytest.raises(ValueError, match=f"top={k} of 5 layers; give a number from 1 to 5"):
            select(LAYERS, k)
