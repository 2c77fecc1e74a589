"""The ranking of layers by their scores: Recon branches the layers at its top."""

from collections.abc import Mapping, Sequence

from recon.errors import number_of

DEFAULT_TOP = 25
"""The number of layers that the paper's first experiment branches, the default everywhere."""


def top_layers(scores: Mapping[str, int], k: int) -> list[str]:
    """Return the ``k`` layers of highest score, highest first; ties in the order of ``scores``.

    Args:
        scores: Layer -> score, in forward order.
        k: The number of layers.

    Raises:
        ValueError: ``k`` is not from 1 to the number of layers.

    Example:
        >>> top_layers({"conv1": 3, "conv2": 7, "fc": 3}, k=2)
        ['conv2', 'conv1']
    """
    check_number_of_layers(k, list(scores))
    return sorted(scores, key=lambda layer: -scores[layer])[:k]


def check_number_of_layers(k: int, layers: Sequence[str]) -> None:
    """Raise a ValueError unless ``k`` of the layers can be selected."""
    if not 1 <= k <= len(layers):
        raise ValueError(f"top={k} of {number_of(len(layers), 'layer')}; give a number from 1 to {len(layers)}")
