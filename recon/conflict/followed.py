"""The layers that an analyzer follows while some freeze and others thaw."""

from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor, nn

from recon.errors import unknown_name
from recon.gradients.layers import all_layers, network_name, shared_layers


class FollowedLayers:
    """The layers of a shared part that have been trained so far.

    Args:
        shared: The module that the tasks share.

    Attributes:
        network: Class name of the network.
        parameters: Layer -> the number of its parameters that have been trained, in forward order.
        trained: The layers that are trained now.
    """

    def __init__(self, shared: nn.Module) -> None:
        self.network = network_name(shared)
        self._sizes = _sizes(all_layers(shared))
        if not self._sizes:
            raise ValueError(f"{self.network} has no shared trainable parameters; give the module that the tasks share")
        self.parameters = _sizes(shared_layers(shared))
        self.trained = tuple(self.parameters)

    def update(self, shared: nn.Module) -> None:
        """Find again which layers are trained.

        Raises:
            ValueError: The module has other layers.
        """
        names = tuple(all_layers(shared))
        if names != tuple(self._sizes):
            strange = sorted(set(self._sizes) ^ set(names))[:5]
            raise ValueError(f"the analyzer was made for another network: layers that differ include {strange}")
        trained = _sizes(shared_layers(shared))
        self.trained = tuple(trained)
        self._add({name: max(size, self.parameters.get(name, 0)) for name, size in trained.items()})

    def add(self, names: Iterable[str]) -> None:
        """Count layers as trained so far.

        Raises:
            ValueError: The network has no such layer.
        """
        for name in names:
            if name not in self._sizes:
                raise unknown_name("layer", name, self._sizes, self.network)
        self._add({name: self._sizes[name] for name in names if name not in self.parameters})

    def in_all_layers(self, gramians: Tensor) -> Tensor:
        """Gramians of all layers from those of the trained layers; zero where a layer is frozen."""
        if len(self.trained) == len(self.parameters):
            return gramians
        layers = tuple(self.parameters)
        every = gramians.new_zeros(len(layers), *gramians.shape[1:])
        every[[layers.index(name) for name in self.trained]] = gramians
        return every

    def _add(self, parameters: Mapping[str, int]) -> None:
        known = self.parameters | dict(parameters)
        self.parameters = {name: known[name] for name in self._sizes if name in known}


def _sizes(layers: Mapping[str, Sequence[Tensor]]) -> dict[str, int]:
    return {name: sum(p.numel() for p in own) for name, own in layers.items()}
