"""Layers drawn at random at the price of a selection by conflict: what chance does with as much.

Each set of layers whose price is near enough is equally likely, whatever its number of layers. A
set has one layer at least, and never all of them. While none is near enough, the tolerance doubles.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from recon.errors import number_of

TOLERANCE = 0.02
"""How far the price of a drawn set may lie from the price that is asked for, as a share of it."""

_AT_ONCE, _DRAWS = 2**12, 2**16
_TRIES = 2**11


def random_layers_of_size(
    sizes: Mapping[str, int], size: int, seed: int, other_than: Collection[str] = (), tolerance: float = TOLERANCE
) -> list[str]:
    """Draw layers whose sizes add up to about a given size, in the order of ``sizes``.

    Layers are drawn one by one, with the odds ``exp(-rate * size)``. The rate makes the expected
    sum right. Rejection then takes its preference for small sums out again.

    Args:
        sizes: Layer -> its size, such as the parameters that its copies add.
        size: The sum to come near to.
        seed: Seed of the drawing.
        other_than: A set that is never drawn.
        tolerance: The greatest distance from ``size``, as a share of it.

    Raises:
        ValueError: There is no second layer.

    Example:
        >>> sizes = {"conv1": 40, "bn1": 8, "conv2": 80, "bn2": 8}
        >>> random_layers_of_size(sizes, size=48, seed=0, other_than=["conv1", "bn1"])
        ['conv1', 'bn2']
    """
    layers = list(sizes)
    numbers = np.array(list(sizes.values()), dtype=np.float64)
    generator = np.random.default_rng(seed)
    for low, high in _widening(size, min(numbers), tolerance, layers):
        possible = numbers <= high
        rate = _rate(numbers[possible], size)
        chances = np.where(possible, _chance(rate, numbers), 0)
        best = high if rate > 0 else low  # the sum that the rate prefers least
        for _ in range(_DRAWS // _AT_ONCE):
            drawn = generator.random((_AT_ONCE, len(layers))) < chances
            sums = drawn @ numbers
            kept = generator.random(_AT_ONCE) < np.exp(np.minimum(rate * (sums - best), 0))
            for row in drawn[kept & (low <= sums) & (sums <= high)]:
                if _is_other(chosen := _chosen(layers, row), layers, other_than):
                    return chosen
    raise AssertionError  # the tolerance has no end


def random_layers_of_price(
    layers: Sequence[str],
    price: Callable[[Collection[str]], int],
    wanted: int,
    seed: int,
    other_than: Collection[str] = (),
    tolerance: float = TOLERANCE,
) -> list[str]:
    """Draw layers of about a given price, where the price of a set is no sum over its layers.

    A layer that alone costs too much is in no set. Of the others each is drawn or not with equal
    chance, until the price of the set fits.

    Args:
        layers: The layers to draw from.
        price: The price of a set of layers, which does not fall when a layer is added, such as the
            operations that branching them adds.
        wanted: The price to come near to.
        seed: Seed of the drawing.
        other_than: A set that is never drawn.
        tolerance: The greatest distance from ``wanted``, as a share of it.

    Raises:
        ValueError: There is no second layer.

    Example:
        >>> behind = {"conv1": 3, "conv2": 2, "fc": 1}  # operations of it and of all that follows
        >>> price = lambda chosen: max((behind[layer] for layer in chosen), default=0)
        >>> random_layers_of_price(list(behind), price, wanted=2, seed=0)
        ['conv2', 'fc']
    """
    alone = {layer: price([layer]) for layer in layers}
    generator = np.random.default_rng(seed)
    for low, high in _widening(wanted, min(alone.values()), tolerance, layers):
        possible = [layer for layer in layers if alone[layer] <= high]
        for _ in range(_TRIES):
            chosen = _chosen(possible, generator.random(len(possible)) < 0.5)
            if _is_other(chosen, layers, other_than) and low <= price(chosen) <= high:
                return chosen
    raise AssertionError  # the tolerance has no end


def _widening(wanted: float, least: float, tolerance: float, layers: Sequence[str]) -> Iterator[tuple[float, float]]:
    """The bounds of a price, first for the tolerance, then for twice as much, and so on."""
    if len(layers) < 2:
        raise ValueError(f"{number_of(len(layers), 'layer')} to draw from leaves no other set; give two or more")
    while True:
        reach = tolerance * (wanted or max(least, 1))
        yield wanted - reach, wanted + reach
        tolerance *= 2


def _is_other(chosen: Sequence[str], layers: Sequence[str], other_than: Collection[str]) -> bool:
    return 0 < len(chosen) < len(layers) and set(chosen) != set(other_than)


def _chosen(layers: Sequence[str], drawn: NDArray[np.bool_]) -> list[str]:
    return [layer for layer, own in zip(layers, drawn, strict=True) if own]


def _chance(rate: float, numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.special import expit

    chances: NDArray[np.float64] = expit(-rate * numbers)
    return chances


def _rate(numbers: NDArray[np.float64], size: float) -> float:
    """The rate at which the expected sum is the size, as far as a sum can be."""
    from scipy.optimize import brentq

    if not len(numbers):
        return 0.0
    steepest = 20 / max(float(numbers.mean()), 1.0)

    def excess(rate: float) -> float:
        return float(_chance(rate, numbers) @ numbers) - size

    if excess(-steepest) <= 0:
        return -steepest
    return steepest if excess(steepest) >= 0 else float(brentq(excess, -steepest, steepest))
