"""Layers selected without a conflict map: the controls that a selection by conflict is held against."""

from collections.abc import Sequence
from random import Random


def check_number_of_layers(k: int, layers: Sequence[str]) -> None:
    """Raise unless ``k`` of the layers can be selected."""
    if not 1 <= k <= len(layers):
        raise ValueError(f"k={k} layers of {len(layers)}; give a number from 1 to {len(layers)}")


def random_layers(layers: Sequence[str], k: int, seed: int) -> list[str]:
    """Return ``k`` of the layers, each equally likely, in forward order; the same ones for the same seed."""
    check_number_of_layers(k, layers)
    chosen = set(Random(seed).sample(range(len(layers)), k))
    return [layer for i, layer in enumerate(layers) if i in chosen]


def first_layers(layers: Sequence[str], k: int) -> list[str]:
    """Return the ``k`` layers that come first in forward order."""
    check_number_of_layers(k, layers)
    return list(layers[:k])


def last_layers(layers: Sequence[str], k: int) -> list[str]:
    """Return the ``k`` layers that come last in forward order."""
    check_number_of_layers(k, layers)
    return list(layers[-k:])
