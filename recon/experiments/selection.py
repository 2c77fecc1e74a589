"""The layers that a rule selects on the network of a fit, with the prices that they have there."""

from collections.abc import Mapping, Sequence

from torch import nn

from recon.branching import Groups, Prices
from recon.conflict import ConflictMap, Rule
from recon.data.contract import input_shape_of, tasks_of
from recon.experiments.fit import Fit
from recon.training.branch_options import branchable_layers, parted_layers, task_specific_layers, tree_groups
from recon.training.selection import LayersOnNetwork


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
    return _on_network(fit, backbone, rule, tree).selected(conflict_map, rule, severity)


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
    _on_network(fit, backbone, rule, tree).check(rule)


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
    return _on_network(fit, backbone, rule, tree).prices(layers, rule)


def _on_network(fit: Fit, backbone: nn.Module, rule: Rule, tree: str | None) -> LayersOnNetwork:
    data = fit.data()
    tasks = [task.name for task in tasks_of(data)]
    own: Mapping[str, Groups] = {layer: [[task] for task in tasks] for layer in task_specific_layers(backbone)}
    shape = None if rule.flops is None else input_shape_of(data)
    layers = branchable_layers(backbone, parted_layers(tree))
    return LayersOnNetwork(backbone, tasks, layers, {**own, **tree_groups(tree, tasks)}, shape)
