"""Preview of the layers that rules select by a conflict map, and of what they cost on a network."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import nn

from recon.branching import Prices
from recon.branching.growth import Measure, step_seconds
from recon.conflict import ConflictMap, Rule
from recon.conflict.rules import select_layers
from recon.data.contract import tasks_of
from recon.errors import number_of
from recon.experiments.cost import sample_of
from recon.experiments.fit import Fit
from recon.experiments.map_preview import matched_layers
from recon.experiments.selection import prices_on
from recon.gradients.layers import network_name, number_of_layers
from recon.training.branch_options import BranchOptions, branchable_layers, network_for, parted_layers

_SHARES = {"parameters": (0.01, 0.02, 0.05, 0.1, 0.2, 0.5), "flops": (0.1, 0.25, 0.5, 0.75, 1.0)}
"""Budgets of the curve, for two tasks; they grow with the number of further tasks."""

_LARGE = 10**9
"""Operations of a forward from which on the step that is timed has 2 samples instead of 8."""

_POINTS = 24
"""Budgets of parameters of the figure, at equal ratios."""


@dataclass(frozen=True)
class Selection:
    """The layers that a rule selects, and their price; prints as a report.

    Attributes:
        rule: The rule.
        layers: The selected layers, the worst first.
        captured: The share of all scores that these layers have.
        parameters: Parameters of the backbone with these branched, and without.
        flops: Operations of a forward of one sample for all tasks, likewise.
        seconds: Time of a training step of the backbone, likewise; ``None`` where it was not
            measured.
        samples: Number of samples of that step.
    """

    rule: Rule
    layers: tuple[str, ...]
    captured: float
    parameters: Measure
    flops: Measure
    seconds: Measure | None = None
    samples: int = 0

    def to_dict(self) -> dict[str, Any]:
        """The selection as JSON; the growth is branched over plain, less one."""
        measures = {"parameters": self.parameters, "flops": self.flops, "step_seconds": self.seconds}
        known = {name: asdict(one) | {"growth": one.ratio - 1} for name, one in measures.items() if one is not None}
        return {"rule": self.rule.given, "layers": list(self.layers), "captured": self.captured, **known}

    def __str__(self) -> str:
        lines = [
            f"rule       {self.rule}",
            f"selected   {number_of_layers(self.layers)}: {', '.join(self.layers)}",
            f"score      {self.captured:.1%} of all scores",
            f"parameters {self.parameters.plain:,.0f} -> {self.parameters.branched:,.0f} "
            f"({self.parameters.ratio - 1:+.1%})",
            f"FLOPs      {self.flops.plain:.3g} -> {self.flops.branched:.3g} ({self.flops.ratio - 1:+.1%})",
        ]
        if self.seconds is not None:
            plain, branched = self.seconds.plain * 1e3, self.seconds.branched * 1e3
            growth = self.seconds.ratio - 1
            lines.append(
                f"step time  {plain:.3g} ms -> {branched:.3g} ms ({growth:+.0%}), of "
                f"{number_of(self.samples, 'sample')}"
            )
        return "\n".join(lines)


@dataclass(frozen=True)
class MapOnNetwork:
    """A conflict map beside a network, whose layers it knows by name: what rules select there.

    Budgets and growth are of the backbone, without heads. Layers that only map or network has are
    left out. No data are read. With a task tree, the network is parted as it says in any case:
    selected layers have a copy per task beside it, and growth is beyond the network with the tree.

    >>> fit = Fit({
    ...     "model": {"backbone": {"class_path": "recon.models.ResNet18"}},
    ...     "data": {"class_path": "recon.data.Glyphs"},
    ... })
    >>> found = ConflictMap.load("multi-fashion-mnist-resnet18")
    >>> selection = MapOnNetwork(found, fit, severity=-0.1).select(Rule(top=25))
    >>> f"{selection.captured:.1%} for {selection.parameters.ratio - 1:+.1%} parameters"
    '98.9% for +1.4% parameters'

    Attributes:
        conflict_map: The map.
        fit: Network and data module.
        severity: Severity S at which the map ranks.
        tree: File of a task tree.
    """

    conflict_map: ConflictMap
    fit: Fit
    severity: float
    tree: str | None = None

    @property
    def title(self) -> str:
        """The network, its tasks, the severity, and how many layers the two have in common."""
        matched, known = len(self._scores), len(self.conflict_map.layers)
        return (
            f"{network_name(self._backbone)}, tasks {', '.join(self._tasks)}, severity {self.severity}, "
            f"{matched} of the map's {number_of(known, 'layer')}"
            + ("" if self.tree is None else f", beyond {self.tree}")
        )

    def select(self, rule: Rule) -> Selection:
        """The layers that a rule selects, with their price in parameters and operations.

        Raises:
            ValueError: No layer meets the rule, or all would be branched.
        """
        rates = self.conflict_map.rates_for(rule, self.severity)
        if rule.is_top:
            self._check_leaves_some(rule, rule.top or 0)
        layers = select_layers(self._scores, rule, self._prices, rates)
        self._check_leaves_some(rule, len(layers))
        return Selection(
            rule,
            tuple(layers),
            sum(self._scores[layer] for layer in layers) / max(sum(self._scores.values()), 1),
            Measure(self._prices.plain_parameters + self._prices.parameters_of(layers), self._prices.plain_parameters),
            Measure(self._prices.plain_flops + self._prices.flops_of(layers), self._prices.plain_flops),
        )

    def timed(self, selection: Selection) -> Selection:
        """The selection with the measured time of a training step, on this machine's processor."""
        branched, plain = (self._network(layers) for layers in (selection.layers, ()))
        samples = 8 if selection.flops.plain < _LARGE else 2
        batch = sample_of(self.fit.data(), self._backbone, samples)
        batch.normal_(generator=torch.Generator().manual_seed(0))
        return replace(selection, seconds=step_seconds(branched, plain, batch), samples=samples)

    def curve(self) -> list[Selection]:
        """Selections of a row of numbers of layers and of budgets, without those of no layer."""
        number = len(self._scores)
        step = max(1, number // 8)
        rules = [Rule(top=top) for top in range(step, number, step)]
        for name, shares in _SHARES.items():
            rules += [_budget(name, round(share * (len(self._tasks) - 1), 3)) for share in shares]
        return list(self._possible(rules))

    def tops(self) -> list[Selection]:
        """The top layers, for every number of them that leaves one shared."""
        return list(self._possible([Rule(top=top) for top in range(1, len(self._scores))]))

    def frontier(self, name: str) -> list[Selection]:
        """What budgets from the cheapest layer to all layers select.

        Args:
            name: The budget, ``parameters`` or ``flops``.
        """
        if name == "flops":
            plain, budgets = (
                self._prices.plain_flops,
                sorted({self._prices.flops_of([layer]) for layer in self._scores}),
            )
        else:
            plain, most = self._prices.plain_parameters, self._prices.parameters_of(self._scores)
            least = min(filter(None, map(self._prices.parameters.__getitem__, self._scores)))
            budgets = [round(least * (most / least) ** (point / _POINTS)) for point in range(_POINTS + 1)]
        return list(self._possible([_budget(name, budget / plain + 1e-9) for budget in budgets if budget]))

    def _possible(self, rules: list[Rule]) -> Iterator[Selection]:
        for rule in rules:
            try:
                yield self.select(rule)
            except ValueError:  # no layer is so cheap, or a network has only so many
                continue

    def _network(self, layers: Sequence[str]) -> nn.Module:
        return network_for(self._backbone, self._tasks, BranchOptions(layers=layers, tree=self.tree))

    def _check_leaves_some(self, rule: Rule, selected: int) -> None:
        shared = len(branchable_layers(self._backbone, parted_layers(self.tree)))
        if selected >= shared:
            raise ValueError(f"{rule} would branch all {number_of(shared, 'shared layer')}; leave at least one shared")

    @cached_property
    def _backbone(self) -> nn.Module:
        return self.fit.backbone()

    @cached_property
    def _tasks(self) -> list[str]:
        return [task.name for task in tasks_of(self.fit.data())]

    @cached_property
    def _scores(self) -> dict[str, int]:
        """The scores of the layers that the network has, in the order of the map."""
        matched = set(matched_layers(self.conflict_map, branchable_layers(self._backbone), self._backbone))
        scores = self.conflict_map.scores(self.severity)
        return {layer: scores[layer] for layer in self.conflict_map.layers if layer in matched}

    @cached_property
    def _prices(self) -> Prices:
        on_meta = self.fit.backbone().to("meta")  # where a forward computes nothing
        return prices_on(self.fit, on_meta, list(self._scores), Rule(flops=1.0), self.tree)


def _budget(name: str, growth: float) -> Rule:
    return Rule(parameters=growth) if name == "parameters" else Rule(flops=growth)


def describe_curve(selections: list[Selection]) -> str:
    """A table of selections: rule, number of layers, share of the score, growth of the price."""
    from tabulate import tabulate

    rows = [
        [
            str(one.rule),
            str(len(one.layers)),
            f"{one.captured:.1%}",
            f"{one.parameters.ratio - 1:+.1%}",
            f"{one.flops.ratio - 1:+.1%}",
        ]
        for one in selections
    ]
    alignment = ("left", *["right"] * 4)
    titles = ["rule", "layers", "score", "parameters", "FLOPs"]
    return tabulate([titles, *rows], tablefmt="plain", colalign=alignment, disable_numparse=True)
