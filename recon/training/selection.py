"""The layers that a rule selects by a conflict map on a network, with their prices there."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import nn

from recon.branching import Groups, Prices, layer_prices
from recon.conflict import ConflictMap, Rule
from recon.conflict.rules import select_layers
from recon.errors import number_of


class LayersOnNetwork:
    """The layers of a network that a rule may select, and what they cost there.

    Args:
        backbone: The network before branching.
        tasks: Names of the tasks.
        layers: The layers that tasks share.
        groups: Layers that are branched in any case, with their groups of tasks.
        input_shape: Shape of the inputs of one sample, for a budget of FLOPs.

    Example:
        >>> from recon.models import ResNet18
        >>> network, found = ResNet18(width=4), ConflictMap.load("multi-fashion-mnist-resnet18")
        >>> on_network = LayersOnNetwork(network, ["digit", "fashion"], found.layers)
        >>> on_network.selected(found, Rule(parameters=0.001), severity=-0.1)
        ['bn1', 'layer1.0.bn1', 'layer1.1.bn1', 'layer1.0.bn2', 'layer1.1.bn2']
    """

    def __init__(
        self,
        backbone: nn.Module,
        tasks: Sequence[str],
        layers: Sequence[str],
        groups: Mapping[str, Groups] | None = None,
        input_shape: Sequence[int] | None = None,
    ) -> None:
        self._backbone = backbone
        self._tasks = tasks
        self._layers = layers
        self._groups = groups
        self._input_shape = input_shape

    def selected(self, conflict_map: ConflictMap, rule: Rule, severity: float) -> list[str]:
        """Return the layers that a rule selects, highest score first.

        Args:
            conflict_map: The map; it fits the network.
            rule: The rule.
            severity: Severity S at which the map ranks.

        Raises:
            ValueError: No layer meets the rule, all would be branched, or the network's operations
                are not known.
        """
        if rule.is_top:
            self._check_leaves_some(rule, rule.top or 0)
        prices = self.prices(conflict_map.layers, rule) if rule.needs_prices else None
        selected = conflict_map.select_by(rule, severity, prices)
        self._check_leaves_some(rule, len(selected))
        return selected

    def check(self, rule: Rule) -> None:
        """Check a rule before a search has found the conflict map, as if every layer conflicted.

        Raises:
            ValueError: No map could make the rule select layers of this network.
        """
        self._check_leaves_some(rule, rule.top or 0)
        if rule.needs_prices or rule.blocks is not None:
            prices = self.prices(self._layers, rule) if rule.needs_prices else None
            select_layers(dict.fromkeys(self._layers, 1), replace(rule, threshold=None, rate=None), prices)

    def prices(self, layers: Sequence[str], rule: Rule) -> Prices:
        """The prices of layers, beyond the branches that the network has in any case.

        Args:
            layers: The layers that may be branched.
            rule: The rule; operations are counted if it has a budget of them.

        Raises:
            ValueError: The rule has a budget of operations, and they are not known.
        """
        inputs = () if rule.flops is None else (self._sample(rule),)
        return layer_prices(self._backbone, layers, self._tasks, *inputs, groups=self._groups)

    def _sample(self, rule: Rule) -> torch.Tensor:
        if self._input_shape is None:
            raise ValueError(
                f"the budget {rule} needs the shape of an input to count FLOPs; give data with the attribute "
                "input_shape, or a budget of parameters"
            )
        parameter = next(self._backbone.parameters())
        return torch.zeros(1, *self._input_shape, dtype=parameter.dtype, device=parameter.device)

    def _check_leaves_some(self, rule: Rule, selected: int) -> None:
        if selected >= len(self._layers):
            name = f"top={rule.top}" if rule.top is not None else f"select: {rule}"
            cure = "" if rule.top is not None else f": add a top below {len(self._layers)}, or ask for more conflict"
            raise ValueError(
                f"{name} would branch all {number_of(len(self._layers), 'shared layer')}; leave at least one "
                f"shared{cure}"
            )
