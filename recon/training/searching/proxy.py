"""A narrow network that is searched in place of a wide one with the same layers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from recon.conflict import MeasuredMap
from recon.gradients.layers import network_name, shared_layers
from recon.training.module import MultiTaskModule


@dataclass(frozen=True)
class Proxy:
    """A network to search in place of another one, whose layers have the same names.

    Attributes:
        module: The narrow network with its tasks and its optimizer.
        arguments: Arguments of its backbone that differ from those of the other network, for the
            provenance of the map.
    """

    module: MultiTaskModule
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def check_same_layers(self, network: MultiTaskModule) -> None:
        """Raise a ValueError unless the layers of both networks have the same names.

        Args:
            network: The network for which the map is.
        """
        own, wide = list(shared_layers(self.module.backbone)), list(shared_layers(network.backbone))
        parts = [
            f"{', '.join(map(repr, names[:5]))}{', ...' if len(names) > 5 else ''} only in the {where}"
            for where, names in (("proxy", _without(own, wide)), ("network", _without(wide, own)))
            if names
        ]
        if not parts and own == wide:
            return
        differ = "; ".join(parts) or "they are the same in another order"
        raise ValueError(
            f"the layers of the proxy {_shown(self.arguments)} differ from those of {network_name(network.backbone)}: "
            f"{differ}; give arguments that change the width alone"
        )

    def hand_over(self, cmap: MeasuredMap, network: MultiTaskModule) -> None:
        """Make a map of the proxy one of the other network: with its sizes of layers, and a note.

        Args:
            cmap: The map, which is changed.
            network: The network for which the map is.
        """
        sizes = {name: sum(p.numel() for p in own) for name, own in shared_layers(network.backbone).items()}
        searched = sum(cmap.parameters.values())
        cmap.parameters = {layer: sizes[layer] for layer in cmap.layers}
        cmap.provenance["network"] = network_name(network.backbone)
        cmap.provenance["proxy"] = {"arguments": dict(self.arguments), "parameters": searched}


def _shown(arguments: Mapping[str, Any]) -> str:
    return f"{{{', '.join(f'{key}: {value}' for key, value in arguments.items())}}}"


def _without(names: list[str], others: list[str]) -> list[str]:
    return [name for name in names if name not in set(others)]
