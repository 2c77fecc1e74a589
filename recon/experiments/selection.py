"""The layers that a rule selects on the network of a fit, with the prices that they have there."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import nn

from recon.branching import Groups, Prices, layer_prices
from recon.conflict import ConflictMap, Rule
from recon.conflict.rules import select_layers
from recon.data.contract import tasks_of
from recon.experiments.cost import sample_of
from recon.experiments.fit import Fit
from recon.training.branch_options import branchable_layers, parted_layers, task_specific_layers, tree_groups


def selected_layers(
    conflict_map: ConflictMap, rule: Rule, severity: float, fit: Fit, backbone: nn.Module, tree: str | None = None
) -> list[str]:
    """Return the layers that a rule selects by a conflict map, highest score first.

    Args:
        conflict_map: The map; it fits the backbone.
        rule: The rule.
        severity: Severity S at which the map ranks.
        fit: Network and data module; the data give the tasks and the shape of an input.
        backbone: The fit's backbone.
        tree: File of a task tree, by which the network is parted in any case.

    Raises:
        ValueError: No layer meets the rule, all would be branched, or the network's operations are
            not known.
    """
    layers = branchable_layers(backbone, parted_layers(tree))
    prices = prices_on(fit, backbone, conflict_map.layers, rule, tree) if rule.needs_prices else None
    selected = conflict_map.select_by(rule, severity, prices)
    _check_leaves_some(rule, len(selected), len(layers))
    return selected


def check_rule(rule: Rule, fit: Fit, backbone: nn.Module, tree: str | None = None) -> None:
    """Check a rule before a search has found the conflict map, as if every layer conflicted.

    Args:
        rule: The rule.
        fit: Network and data module.
        backbone: The fit's backbone.
        tree: File of a task tree, by which the network is parted in any case.

    Raises:
        ValueError: No map could make the rule select layers of this network.
    """
    layers = branchable_layers(backbone, parted_layers(tree))
    _check_leaves_some(rule, rule.top or 0, len(layers))
    if rule.needs_prices or rule.blocks is not None:
        known = replace(rule, threshold=None, rate=None)
        prices = prices_on(fit, backbone, layers, rule, tree) if rule.needs_prices else None
        select_layers(dict.fromkeys(layers, 1), known, prices)


def prices_on(fit: Fit, backbone: nn.Module, layers: Sequence[str], rule: Rule, tree: str | None = None) -> Prices:
    """The prices of layers on the network of a fit, beyond the branches that it has in any case.

    Args:
        fit: Network and data module.
        backbone: The fit's backbone.
        layers: The layers that may be branched.
        rule: The rule; operations are counted if it has a budget of them.
        tree: File of a task tree.

    Raises:
        ValueError: The rule has a budget of operations, and they are not known.
    """
    data = fit.data()
    tasks = [task.name for task in tasks_of(data)]
    own: Mapping[str, Groups] = {layer: [[task] for task in tasks] for layer in task_specific_layers(backbone)}
    inputs = () if rule.flops is None else (sample_of(data, backbone),)
    return layer_prices(backbone, layers, tasks, *inputs, groups={**own, **tree_groups(tree, tasks)})


def _check_leaves_some(rule: Rule, selected: int, layers: int) -> None:
    if selected >= layers:
        name = f"top={rule.top}" if rule.top is not None else f"select: {rule}"
        cure = "" if rule.top is not None else f": add a top below {layers}, or ask for more conflict"
        raise ValueError(f"{name} would branch all {layers} shared layers; leave at least one shared{cure}")
