"""The blocks of a network: modules that hold layers, such as ``layer4.1``."""

from collections.abc import Iterable, Mapping
from itertools import accumulate
from statistics import fmean


def blocks_of(layers: Iterable[str]) -> dict[str, list[str]]:
    """Return block -> its layers, in the order of the layers.

    A block is the outermost module around a layer that holds a layer directly, without the network
    itself. A layer that the network holds directly is a block of its own.

    Args:
        layers: The layers of a network.

    Example:
        >>> blocks_of(["conv1", "layer1.0.conv1", "layer1.0.downsample.0"])
        {'conv1': ['conv1'], 'layer1.0': ['layer1.0.conv1', 'layer1.0.downsample.0']}
    """
    layers = list(layers)
    holders = {layer.rpartition(".")[0] for layer in layers} - {""}
    blocks: dict[str, list[str]] = {}
    for layer in layers:
        around = accumulate(layer.split("."), "{}.{}".format)
        blocks.setdefault(next((path for path in around if path in holders), layer), []).append(layer)
    return blocks


def top_blocks(scores: Mapping[str, int], number: int) -> list[str]:
    """Return the layers of the blocks with the highest mean score, the highest first.

    Blocks of equal mean, and layers of equal score in a block, keep the order of ``scores``.

    Args:
        scores: Layer -> score, of all layers.
        number: The number of blocks.

    Raises:
        ValueError: There are not so many blocks, or no layer would stay shared.

    Example:
        >>> top_blocks({"a.0": 1, "a.1": 3, "b.0": 5, "b.1": 2, "fc": 3}, number=2)
        ['b.0', 'b.1', 'fc']
    """
    blocks = blocks_of(scores)
    if number >= len(blocks):
        raise ValueError(
            f"blocks={number} of the {len(blocks)} blocks {', '.join([*blocks][:8])}{', ...' * (len(blocks) > 8)} "
            f"leaves none shared; give 1 to {len(blocks) - 1}"
            if len(blocks) > 1
            else f"the network has the one block {next(iter(blocks))!r}; give top, a number of layers"
        )
    ranked = sorted(blocks.values(), key=lambda own: -fmean(scores[layer] for layer in own))
    return [layer for own in ranked[:number] for layer in sorted(own, key=lambda layer: -scores[layer])]
