"""Layers selected without a conflict map: the controls that a selection by conflict is held against."""

from collections.abc import Collection, Sequence
from random import Random

DEFAULT_TOP = 25
"""How many layers the paper's first experiment branches, used where no number is asked for."""


def check_number_of_layers(k: int, layers: Sequence[str]) -> None:
    """Raise unless ``k`` of the layers can be selected."""
    if not 1 <= k <= len(layers):
        raise ValueError(f"k={k} layers of {len(layers)}; give a number from 1 to {len(layers)}")


def random_layers(layers: Sequence[str], k: int, seed: int, other_than: Collection[str] = ()) -> list[str]:
    """Return ``k`` of the layers, each set equally likely, in forward order; the same ones for the same seed.

    Args:
        layers: The layers to draw from.
        k: How many to draw.
        seed: Seed of the drawing.
        other_than: A set of layers that is no control of itself: when it is drawn, another one is drawn instead.

    Raises:
        ValueError: ``k`` is out of range, or there is no other set.
    """
    check_number_of_layers(k, layers)
    if k == len(layers) and set(layers) == set(other_than):
        raise ValueError(f"all {k} layers are selected, and there is no other set of {k} to draw; select fewer")
    random = Random(seed)
    while True:
        chosen = {layers[i] for i in random.sample(range(len(layers)), k)}
        if chosen != set(other_than):
            return [layer for layer in layers if layer in chosen]


def first_layers(layers: Sequence[str], k: int) -> list[str]:
    """Return the ``k`` layers that come first in forward order."""
    check_number_of_layers(k, layers)
    return list(layers[:k])


def last_layers(layers: Sequence[str], k: int) -> list[str]:
    """Return the ``k`` layers that come last in forward order."""
    check_number_of_layers(k, layers)
    return list(layers[-k:])
