"""Layers selected without a conflict map, as controls of a selection by conflict."""

from collections.abc import Collection, Sequence
from random import Random

from recon.conflict.ranking import check_number_of_layers


def random_layers(layers: Sequence[str], k: int, seed: int, other_than: Collection[str] = ()) -> list[str]:
    """Return ``k`` of the layers at random, in forward order.

    Each set is equally likely, and the same seed gives the same set.

    Args:
        layers: The layers to draw from.
        k: The number of layers to draw.
        seed: Seed of the drawing.
        other_than: A set of layers that is no control of itself; if it is drawn, another set is
            drawn instead.

    Raises:
        ValueError: ``k`` is out of range, or there is no other set.

    Example:
        >>> random_layers(["conv1", "conv2", "conv3", "fc"], k=2, seed=0)
        ['conv2', 'fc']
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
    """Return the ``k`` layers that come first in forward order.

    Example:
        >>> first_layers(["conv1", "conv2", "fc"], k=2)
        ['conv1', 'conv2']
    """
    check_number_of_layers(k, layers)
    return list(layers[:k])


def last_layers(layers: Sequence[str], k: int) -> list[str]:
    """Return the ``k`` layers that come last in forward order.

    Example:
        >>> last_layers(["conv1", "conv2", "fc"], k=2)
        ['conv2', 'fc']
    """
    check_number_of_layers(k, layers)
    return list(layers[-k:])
