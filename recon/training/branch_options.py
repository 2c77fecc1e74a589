"""Which layers of a backbone to branch, as a configuration says it."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from recon.branching import NamedInit, Statistics, branch
from recon.conflict import DEFAULT_SEVERITY, DEFAULT_TOP, read_map
from recon.gradients.layers import shared_layers
from recon.models.contract import has_task_specific_layers


@dataclass(frozen=True)
class BranchOptions:
    """Branch the layers named, or the top of a conflict map.

    Args:
        layers: Layer names. Give these or a ``map``.
        map: File of a conflict map, or of a ``{layer: score}`` ranking; or the name of a published ranking.
        top: How many of the map's layers to branch, the most conflicting first.
        severity: Severity S at which the map ranks; by default that of a published or imported map, and -0.1 otherwise.
        init: ``"copy"``: every copy starts from the backbone's weights; ``"reset"``: copies are re-initialised.
        statistics: ``"per_task"``: norms that stay shared behind a branch keep running statistics per task;
            ``"shared"``: one set that mixes the tasks, as published.
    """

    layers: Sequence[str] | None = None
    map: str | None = None
    top: int = DEFAULT_TOP
    severity: float | None = None
    init: NamedInit = "copy"
    statistics: Statistics = "shared"

    def __post_init__(self) -> None:
        if (self.layers is None) == (self.map is None):
            raise ValueError("branching needs either layer names (layers) or a conflict map file (map)")

    def apply(self, backbone: nn.Module, tasks: Sequence[str]) -> nn.Module:
        """The branched network, its own task-specific layers included; the backbone is left alone.

        Without any layer to branch it is the backbone itself.
        """
        layers = _union(task_specific_layers(backbone), self._names(backbone))
        return branch(backbone, layers, tasks, init=self.init, statistics=self.statistics) if layers else backbone

    def _names(self, backbone: nn.Module) -> list[str]:
        if self.layers is not None:
            return list(self.layers)
        assert self.map is not None
        conflict_map = read_map(self.map, self.severity)
        conflict_map.check_layers(branchable_layers(backbone))
        told = [severity for severity in (self.severity, conflict_map.severity) if severity is not None]
        return conflict_map.top(self.top, told[0] if told else DEFAULT_SEVERITY)


def network_for(backbone: nn.Module, tasks: Sequence[str], options: BranchOptions | None) -> nn.Module:
    """The network that tasks are trained with: branched as asked, and where the backbone itself wants it.

    Args:
        backbone: The backbone; it is left alone.
        tasks: Names of the tasks; a single task needs no branches.
        options: What to branch beyond the backbone's own task-specific layers.
    """
    if options is not None:
        return options.apply(backbone, tasks)
    return BranchOptions(layers=[]).apply(backbone, tasks) if len(tasks) > 1 else backbone


def task_specific_layers(backbone: nn.Module) -> list[str]:
    """Names of the layers that the backbone wants one copy per task of, whatever the conflict."""
    return list(backbone.task_specific_layers()) if has_task_specific_layers(backbone) else []


def branchable_layers(backbone: nn.Module) -> list[str]:
    """The layers that tasks share before any branching: those that a conflict map of the backbone scores."""
    own = set(task_specific_layers(backbone))
    return [layer for layer in shared_layers(backbone) if layer not in own]


def _union(first: Sequence[str], second: Sequence[str]) -> list[str]:
    return [*first, *(layer for layer in second if layer not in set(first))]
