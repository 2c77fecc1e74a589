"""The choice of the layers to branch, as a configuration writes it."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from recon.branching import NamedInit, Statistics, branch
from recon.conflict import DEFAULT_SEVERITY, DEFAULT_TOP, read_map
from recon.gradients.layers import shared_layers
from recon.models.contract import for_tasks, has_task_specific_layers


@dataclass(frozen=True)
class BranchOptions:
    """Branch the layers named, or the top of a conflict map.

    >>> import torch
    >>> from recon.models import LeNet
    >>> network = BranchOptions(layers=["fc"]).apply(LeNet(), tasks=["digit", "letter"])
    >>> {task: tuple(own.shape) for task, own in network(torch.zeros(2, 1, 36, 36)).items()}
    {'digit': (2, 50), 'letter': (2, 50)}

    Args:
        layers: Layer names. Give these or a ``map``.
        map: File of a conflict map, or of a ``{layer: score}`` ranking; or the name of a published
            ranking.
        top: Number of the map's layers to branch, the most conflicting first.
        severity: Severity S at which the map ranks; by default the severity of a published or
            imported map, and -0.1 otherwise.
        init: ``"copy"``: every copy starts from the backbone's weights; ``"reset"``: copies are
            re-initialised.
        statistics: ``"per_task"``: norms that stay shared behind a branch keep running statistics
            per task; ``"shared"``: one set that mixes the tasks, as published.

    Raises:
        ValueError: Both ``layers`` and ``map`` are given, or neither.
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
        """The branched network, with a copy per task of the backbone's own task-specific layers.

        The backbone stays unchanged. Without any layer to branch the result is the backbone itself,
        or the network that it makes for the tasks.

        Args:
            backbone: The shared network.
            tasks: Names of the tasks.

        Raises:
            ValueError: The map cannot be read, or does not fit the backbone; or a layer is unknown.
        """
        backbone = for_tasks(backbone, tasks)
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
    """The network to train: branched as asked, and in the backbone's own task-specific layers.

    Args:
        backbone: The backbone; it stays unchanged.
        tasks: Names of the tasks; a single task needs no branches.
        options: Layers to branch beyond the backbone's own; ``None`` for no others.
    """
    if options is not None:
        return options.apply(backbone, tasks)
    return BranchOptions(layers=[]).apply(backbone, tasks) if len(tasks) > 1 else for_tasks(backbone, tasks)


def task_specific_layers(backbone: nn.Module) -> list[str]:
    """Names of the layers that the backbone wants one copy per task of, whatever the conflict."""
    return list(backbone.task_specific_layers()) if has_task_specific_layers(backbone) else []


def branchable_layers(backbone: nn.Module) -> list[str]:
    """The layers that tasks share before any branching: the layers of a conflict map."""
    own = set(task_specific_layers(backbone))
    return [layer for layer in shared_layers(backbone) if layer not in own]


def _union(first: Sequence[str], second: Sequence[str]) -> list[str]:
    return [*first, *(layer for layer in second if layer not in set(first))]
