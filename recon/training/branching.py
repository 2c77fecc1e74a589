"""Which layers of a backbone to branch, as a configuration says it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import nn

from recon.branching import branch
from recon.conflict import ConflictMap
from recon.gradients import shared_layers


@dataclass(frozen=True)
class Branching:
    """Branch the layers named, or the top of a conflict map.

    Args:
        layers: Layer names. Give these or a ``map``.
        map: File of a conflict map.
        top: How many of the map's layers to branch, the most conflicting first.
        severity: Severity S at which the map ranks.
        init: ``"copy"``: every copy starts from the backbone's weights; ``"reset"``: copies are re-initialised.
    """

    layers: Sequence[str] | None = None
    map: str | None = None
    top: int = 25
    severity: float = -0.1
    init: Literal["copy", "reset"] = "copy"

    def __post_init__(self) -> None:
        if (self.layers is None) == (self.map is None):
            raise ValueError("branching needs either layer names (layers) or a conflict map file (map)")

    def apply(self, backbone: nn.Module, tasks: Sequence[str]) -> nn.Module:
        """The branched network; the backbone is left alone."""
        return branch(backbone, self._names(backbone), tasks, init=self.init)

    def _names(self, backbone: nn.Module) -> list[str]:
        if self.layers is not None:
            return list(self.layers)
        assert self.map is not None
        conflict_map = ConflictMap.load(self.map)
        conflict_map.check_layers(shared_layers(backbone))
        return conflict_map.top(self.top, self.severity)
