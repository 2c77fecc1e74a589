"""Preview of a conflict map on a network that was not searched: matched layers and growth."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from torch import nn

from recon.branching.growth import Measure
from recon.configuration import read_yaml
from recon.conflict import ConflictMap
from recon.data.contract import tasks_of
from recon.errors import number_of, unknown_name
from recon.experiments.cost import count_parameters, flops_of_sample
from recon.experiments.fit import Fit
from recon.experiments.plan import Plan
from recon.gradients.layers import network_name, number_of_layers
from recon.training import BranchOptions, MultiTaskModule
from recon.training.branch_options import branchable_layers


@dataclass(frozen=True)
class MapPreview:
    """A conflict map beside a network; prints as a report.

    Attributes:
        network: Class name of the backbone.
        tasks: Names of the tasks.
        severity: Severity S at which the map ranks.
        matched: Layers that both have, in the network's order.
        unmatched: Layers of the map that the network does not have.
        extra: Layers of the network that the map does not score.
        branched: The most conflicting of the matched layers, the worst first.
        parameters: Parameters with these branched, and without; heads included.
        flops: Floating-point operations of a forward of one sample, likewise.
    """

    network: str
    tasks: tuple[str, ...]
    severity: float
    matched: tuple[str, ...]
    unmatched: tuple[str, ...]
    extra: tuple[str, ...]
    branched: tuple[str, ...]
    parameters: Measure
    flops: Measure

    def to_dict(self) -> dict[str, Any]:
        """The preview as JSON; the growth is branched over plain, less one."""
        measures = {"parameters": self.parameters, "flops": self.flops}
        return asdict(self) | {name: asdict(one) | {"growth": one.ratio - 1} for name, one in measures.items()}

    def __str__(self) -> str:
        lines = [
            f"{self.network}, tasks {', '.join(self.tasks)}, severity {self.severity}",
            f"matched    {len(self.matched)} of the map's "
            f"{number_of(len(self.matched) + len(self.unmatched), 'layer')}, "
            f"{len(self.matched)} of the network's {len(self.matched) + len(self.extra)}",
            *(f"unmatched  {layer}  (in the map only)" for layer in self.unmatched),
            *(f"extra      {layer}  (in the network only)" for layer in self.extra),
            f"branched   {number_of_layers(self.branched)}: {', '.join(self.branched)}",
            f"parameters {self.parameters.plain:,.0f} -> {self.parameters.branched:,.0f} "
            f"({self.parameters.ratio - 1:+.1%})",
            f"FLOPs      {self.flops.plain:.3g} -> {self.flops.branched:.3g} ({self.flops.ratio - 1:+.1%})",
        ]
        if self.unmatched or self.extra:
            lines.append("plans and model.branch.map take maps of all layers only; give these as model.branch.layers")
        return "\n".join(lines)


def preview_map(conflict_map: ConflictMap, fit: Fit, top: int, severity: float) -> MapPreview:
    """Branch a network by a map of another one, and measure the cost. No data are read.

    Layers are matched by name; widths may differ. Layers that only one of the two has are left out
    of the ranking.

    >>> fit = Fit({
    ...     "model": {"backbone": {"class_path": "recon.models.ResNet18"}},
    ...     "data": {"class_path": "recon.data.Glyphs"},
    ... })
    >>> found = ConflictMap.load("multi-fashion-mnist-resnet18")
    >>> preview = preview_map(found, fit, top=25, severity=-0.1)
    >>> print(f"{preview.parameters.ratio:.2f} times the parameters")
    1.01 times the parameters

    Args:
        conflict_map: The map.
        fit: Network and data module, see :func:`read_fit`.
        top: How many of the matched layers to branch.
        severity: Severity S at which the map ranks.

    Raises:
        ValueError: The two have no layer in common, fewer than ``top``, or nothing would stay
            shared.
    """
    fit = fit.without_files()
    data, backbone = fit.data(), fit.backbone()
    layers = branchable_layers(backbone)
    matched = matched_layers(conflict_map, layers, backbone)
    _check_top(top, len(matched), layers)
    ranking = [layer for layer in conflict_map.top(len(conflict_map.layers), severity) if layer in set(matched)]
    networks = [_trained(backbone, data, branch) for branch in (BranchOptions(layers=ranking[:top]), None)]
    return MapPreview(
        network=network_name(backbone),
        tasks=tuple(task.name for task in tasks_of(data)),
        severity=severity,
        matched=tuple(matched),
        unmatched=tuple(layer for layer in conflict_map.layers if layer not in set(layers)),
        extra=tuple(layer for layer in layers if layer not in set(matched)),
        branched=tuple(ranking[:top]),
        parameters=Measure(*(count_parameters(network) for network in networks)),
        flops=Measure(*(flops_of_sample(network, data) for network in networks)),
    )


def read_fit(path: str | Path) -> tuple[Fit, Plan | None]:
    """Read the configuration of a fit; also return the plan if the file is one.

    A plan gives its own network; entries with a ``model`` of their own are left out.

    Raises:
        ValueError: The file is neither.
    """
    content = read_yaml(path, "configuration")
    if isinstance(content, dict) and "fit" in content:
        plan = Plan.load(path)
        return Fit(plan.fit), plan
    for section, key in (("model", "backbone"), ("data", "class_path")):
        if not isinstance(content, dict) or key not in (content.get(section) or {}):
            raise ValueError(f"{path} has no {section}.{key}; give what `recon fit` takes, or a benchmark plan")
    return Fit(content), None


def matched_layers(conflict_map: ConflictMap, layers: Sequence[str], backbone: nn.Module) -> list[str]:
    """The layers of the network that the map scores, in the network's order.

    Raises:
        ValueError: There are none; the error names the nearest.
    """
    matched = [layer for layer in layers if layer in set(conflict_map.layers)]
    if not matched:
        nearest = unknown_name("layer", conflict_map.layers[0], layers, network_name(backbone))
        raise ValueError(f"none of the map's {number_of_layers(conflict_map.layers)} is in the network: {nearest}")
    return matched


def _check_top(top: int, matched: int, layers: Sequence[str]) -> None:
    if len(layers) < 2:
        raise ValueError(f"the network shares the one layer {layers[0]!r}, and a branch of it would leave none shared")
    if not 1 <= top < len(layers) or top > matched:
        raise ValueError(
            f"top={top} of {number_of(matched, 'matched layer')}, of {len(layers)} that the network shares; "
            f"give 1 to {min(matched, len(layers) - 1)}"
        )


def _trained(backbone: nn.Module, data: pl.LightningDataModule, branch: BranchOptions | None) -> MultiTaskModule:
    """The network with its heads, on the meta device, where a forward computes nothing."""
    return MultiTaskModule(backbone, tasks_of(data), branch=branch).to("meta").eval()
