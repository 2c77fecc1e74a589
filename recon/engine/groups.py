"""Groups of shared layers that a method weighs each by itself."""

from collections.abc import Mapping, Sequence
from typing import Literal

from torch import nn

from recon.errors import unknown_name
from recon.gradients.layers import all_layers, network_name
from recon.gradients.wrappers import unshared_layers
from recon.methods import GramianMethod, LossMethod, Method, list_methods

Granularity = Literal["network", "layer"] | Mapping[str, Sequence[str]]
"""All layers together; each layer by itself; or groups: name -> its layers."""

OTHERS = "others"
"""Name of the group of the layers that no group names."""


class LayerGroups:
    """A partition of the shared layers, frozen ones too.

    Args:
        groups: Name of each group -> its layers.

    Attributes:
        names: Names of the G groups.

    Example:
        >>> groups = LayerGroups({"early": ["conv1", "bn1"], "others": ["fc"]})
        >>> groups.names, groups.of(["conv1", "fc"])
        (('early', 'others'), [0, 1])
    """

    def __init__(self, groups: Mapping[str, Sequence[str]]) -> None:
        self.names = tuple(groups)
        self._of = {layer: index for index, layers in enumerate(groups.values()) for layer in layers}

    def of(self, layers: Sequence[str]) -> list[int]:
        """The index of the group of each layer.

        Raises:
            ValueError: A layer is in no group, since it was added to the network later.
        """
        try:
            return [self._of[layer] for layer in layers]
        except KeyError as error:
            raise ValueError(
                f"layer {error.args[0]!r} was added to the shared part after its groups were made; make a new engine"
            ) from None


def layer_groups(granularity: Granularity, shared: nn.Module) -> LayerGroups | None:
    """The groups of the layers of a network; ``None`` for all layers together.

    Args:
        granularity: ``"network"``, ``"layer"``, or name -> layers. Layers that no group names form
            one more group, ``"others"``.
        shared: The shared part of the network.

    Raises:
        ValueError: The granularity is unknown; a group is empty; or a layer is unknown or in two
            groups.

    Example:
        >>> network = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))
        >>> layer_groups("layer", network).names, layer_groups({"last": ["2"]}, network).names
        (('0', '2'), ('last', 'others'))
        >>> layer_groups({"last": ["1"]}, network)
        Traceback (most recent call last):
        ValueError: unknown layer '1' in group 'last' of Sequential; known: '0', '2'
    """
    if granularity == "network":
        return None
    layers = [*all_layers(shared)]
    if granularity == "layer":
        return LayerGroups({layer: [layer] for layer in layers})
    if not isinstance(granularity, Mapping):
        raise ValueError(
            f"granularity must be 'network', 'layer' or groups of layers by name, as in {{'stem': ['conv1', 'bn1']}}; "
            f"got {granularity!r}"
        )
    unshared = unshared_layers(shared)
    groups = _checked(granularity, [*layers, *unshared], network_name(shared))
    named = {group: [layer for layer in own if layer not in unshared] for group, own in groups.items()}
    return LayerGroups(_with_others({group: own for group, own in named.items() if own}, layers))


def _checked(granularity: Mapping[str, Sequence[str]], known: Sequence[str], network: str) -> dict[str, list[str]]:
    """The groups as lists, whose layers are known, and each in one group."""
    groups: dict[str, list[str]] = {}
    owner: dict[str, str] = {}
    for group, layers in granularity.items():
        if isinstance(layers, str) or not layers:
            raise ValueError(f"granularity: group {group!r} must be a list of one layer at least, got {layers!r}")
        for layer in layers:
            if layer not in known:
                raise unknown_name("layer", layer, known, where=f"group {group!r} of {network}")
            if layer in owner:
                raise ValueError(
                    f"granularity: layer {layer!r} is in group {owner[layer]!r} and in group {group!r}; leave it in one"
                )
            owner[layer] = group
        groups[group] = list(layers)
    if not groups:
        raise ValueError("granularity names no group; give groups of layers, or 'network' for all layers together")
    return groups


def _with_others(groups: dict[str, list[str]], layers: Sequence[str]) -> dict[str, list[str]]:
    """The groups, and one of the layers that are in none."""
    named = {layer for own in groups.values() for layer in own}
    rest = [layer for layer in layers if layer not in named]
    if rest and OTHERS in groups:
        raise ValueError(
            f"granularity: a group is named {OTHERS!r}, as is the group of the layers that no group names "
            f"({', '.join(rest[:4])}{', ...' if len(rest) > 4 else ''}); give it another name, or name them all"
        )
    return {**groups, OTHERS: rest} if rest else groups


def check_granularity(granularity: Granularity, method: Method, at: str, memory: str) -> None:
    """Refuse groups of layers where the method has no weights for each.

    Raises:
        ValueError: The method needs only losses, or the Jacobian; or gradients are weighted at the
            representation, or never held.
    """
    if granularity == "network":
        return
    if not isinstance(method, GramianMethod):
        reason = (
            "weights losses, which are the same in every layer"
            if isinstance(method, LossMethod)
            else "combines the gradients of all layers at once"
        )
        raise ValueError(
            f"{type(method).__name__} {reason}; use granularity='network', or a Gramian method: "
            f"{', '.join(list_methods(GramianMethod))} or one of yours derived from recon.GramianMethod"
        )
    if at == "representation":
        raise ValueError(
            "at='representation' weights the gradients of the features, which have no layers; "
            "use granularity='network', or at='parameters'"
        )
    if memory == "gramian":
        raise ValueError(
            "memory='gramian' makes the update by one backward of the weighted losses, with the same weights in all "
            "layers; use granularity='network', or memory='jacobian'"
        )
