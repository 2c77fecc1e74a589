"""The choice of the layers to branch, as a configuration writes it."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pytorch_lightning.utilities import rank_zero_info
from torch import nn

from recon.branching import BranchedModule, Groups, NamedInit, Statistics, TaskTree, branch
from recon.branching.groups import groups_of, meet, partition_of
from recon.branching.init import initialise
from recon.branching.layers import join, own_tensors
from recon.conflict import DEFAULT_SEVERITY, DEFAULT_TOP, ConflictMap, Rule, read_map
from recon.gradients.layers import number_of_layers, shared_layers
from recon.models.contract import for_tasks, has_own_draws, has_task_specific_layers
from recon.training.selection import LayersOnNetwork


@dataclass(frozen=True)
class BranchOptions:
    """Branch the layers named, the top of a conflict map, or the stages of a task tree.

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
        select: A rule that selects the map's layers instead, such as a budget
            (:class:`recon.conflict.Rule`).
        severity: Severity S at which the map ranks; by default the severity of a published or
            imported map, and -0.1 otherwise.
        init: ``"copy"``: every copy starts from the backbone's weights; ``"reset"``: copies are
            re-initialised.
        groups: Layer -> the groups of tasks that share a copy, ``[["a", "c"], ["b"]]``, for some of
            the layers to branch; others have one copy per task. Or, with a ``map``, a number of
            groups in every layer; or ``"friends"``: tasks whose mean cosine in a layer is S or more
            share. A layer with one group stays shared.
        growth: With a ``map``: the growth of parameters to spend on copies for groups, 0.05 for
            +5 %, on the foes of lowest mean cosine in any of the map's layers, instead of the top
            layers.
        statistics: ``"per_task"``: norms that stay shared behind a branch keep running statistics
            per task; ``"shared"``: one set that mixes the tasks, as published.
        tree: File of a task tree, which ``recon search --by bmtas`` writes. Groups of tasks share
            copies as it says. ``layers``, or those of a ``map``, then have one copy per task, or
            ``groups`` that part the tree's further. The map is of the network with this tree, or of
            the plain one.

    Raises:
        ValueError: Both ``layers`` and ``map`` are given, or neither and no tree; or a rule, groups
            or growth need a map, or two of them exclude each other.
    """

    layers: Sequence[str] | None = None
    map: str | None = None
    top: int = DEFAULT_TOP
    select: Rule | None = None
    severity: float | None = None
    init: NamedInit = "copy"
    statistics: Statistics = "shared"
    groups: dict[str, list[list[str]]] | int | Literal["friends"] | None = None
    growth: float | None = None
    tree: str | None = None

    def __post_init__(self) -> None:
        named = (self.layers is not None) + (self.map is not None)
        if named == 2 or (named == 0 and self.tree is None):
            raise ValueError(
                "branching needs either layer names (layers) or a conflict map file (map), or else a task tree (tree)"
            )
        if self.map is None and (isinstance(self.groups, int | str) or self.growth is not None):
            raise ValueError("groups by number or 'friends', and growth, need a conflict map file (map); name groups")
        if self.groups is not None and self.growth is not None:
            raise ValueError("both groups and growth choose the groups of tasks; give one")
        if self.select is not None:
            self._check_select(self.select)

    def _check_select(self, rule: Rule) -> None:
        if self.map is None:
            raise ValueError(f"select: {rule} needs a conflict map file (map), whose layers it selects")
        if self.growth is not None or self.top != DEFAULT_TOP:
            other = "top" if self.growth is None else "growth"
            raise ValueError(f"both select and {other} choose the layers; give one, as select takes a top too")
        if self.groups is not None and rule.needs_prices:
            raise ValueError(f"the budget {rule} counts a copy per task; with groups give growth")

    def apply(self, backbone: nn.Module, tasks: Sequence[str], input_shape: Sequence[int] | None = None) -> nn.Module:
        """The branched network, with a copy per task of the backbone's own task-specific layers.

        These start from a draw of each task's own where the backbone can make one, such as the
        gates of MMoE, whatever ``init`` says of the other layers. The backbone stays unchanged.
        Without any layer to branch the result is the backbone itself, or the network that it makes
        for the tasks.

        Args:
            backbone: The shared network.
            tasks: Names of the tasks.
            input_shape: Shape of the inputs of one sample, for a budget of FLOPs.

        Raises:
            ValueError: The map cannot be read, or does not fit the backbone; or a layer is unknown.
        """
        backbone = for_tasks(backbone, tasks)
        named = self.by_name(backbone, tasks, input_shape)
        assert named.layers is not None
        own = task_specific_layers(backbone)
        layers = _union(own, named.layers)
        if not layers:
            return backbone
        groups = named.groups if isinstance(named.groups, dict) else {}
        network = branch(backbone, layers, tasks, init=self.init, statistics=self.statistics, groups=groups)
        _draw_for_tasks(network, backbone, own)
        return network

    def by_name(
        self, backbone: nn.Module, tasks: Sequence[str], input_shape: Sequence[int] | None = None
    ) -> "BranchOptions":
        """The same choice with names of layers and groups instead of a map and a tree.

        It stays the same when the files change.

        Args:
            backbone: The shared network, of these tasks if it depends on them.
            tasks: Names of the tasks.
            input_shape: Shape of the inputs of one sample, for a budget of FLOPs.

        Raises:
            ValueError: The map or the tree cannot be read, or does not fit the backbone; or no
                layer meets the rule.
        """
        if self.map is None and self.tree is None:
            return self
        tree = tree_groups(self.tree, tasks)
        names, groups = self._chosen(backbone, tasks, tree, input_shape)
        groups = {**groups, **_parted_further(tree, names, groups, tasks)}
        layers = _union(names, list(tree))
        return BranchOptions(layers, init=self.init, statistics=self.statistics, groups=groups or None)

    def _chosen(
        self, backbone: nn.Module, tasks: Sequence[str], parted: Mapping[str, Groups], input_shape: Sequence[int] | None
    ) -> tuple[list[str], dict[str, list[list[str]]]]:
        """The layers to branch beside those that a tree has parted, and groups of tasks in some."""
        named = self.groups if isinstance(self.groups, dict) else {}
        if self.map is None:
            return list(self.layers or ()), named
        conflict_map = read_map(self.map, self.severity)
        check_fits(conflict_map, backbone, parted)
        told = [severity for severity in (self.severity, conflict_map.severity) if severity is not None]
        severity = told[0] if told else DEFAULT_SEVERITY
        if self.growth is not None or isinstance(self.groups, int | str):
            _check_same_tasks(conflict_map, tasks)
        if self.growth is not None:
            within = conflict_map.groups_within(self.growth, severity)
            rank_zero_info(
                f"branch.growth={self.growth} branches {len(within)} of {number_of_layers(conflict_map.layers)}"
            )
            return list(within), within
        if self.select is None:
            top, how = conflict_map.top(self.top, severity), f"branch.top={self.top} branches so many"
        else:
            own = {layer: [[task] for task in tasks] for layer in task_specific_layers(backbone)}
            layers = branchable_layers(backbone, parted)
            on_network = LayersOnNetwork(backbone, tasks, layers, {**own, **parted}, input_shape)
            top = on_network.selected(conflict_map, self.select, severity)
            how = f"branch.select ({self.select}) branches {len(top)}"
        rank_zero_info(f"{how} of the {number_of_layers(conflict_map.layers)} of {self.map}")
        if isinstance(self.groups, int | str):
            number = None if isinstance(self.groups, str) else self.groups
            return top, {layer: conflict_map.groups(layer, severity, number) for layer in top}
        return top, named


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


def _draw_for_tasks(network: BranchedModule, backbone: nn.Module, own: Sequence[str]) -> None:
    """Give each task new start values in the layers of its own, where the backbone can."""
    tensors = {join(layer, name) for layer in own for name in own_tensors(backbone.get_submodule(layer))}
    if own and has_own_draws(backbone):
        initialise(dict(network.branches.items()), backbone.drawn_anew, backbone, own, tensors)  # type: ignore[arg-type]


def task_specific_layers(backbone: nn.Module) -> list[str]:
    """Names of the layers that the backbone wants one copy per task of, whatever the conflict."""
    return list(backbone.task_specific_layers()) if has_task_specific_layers(backbone) else []


def branchable_layers(backbone: nn.Module, parted: Collection[str] = ()) -> list[str]:
    """The layers that tasks share before any branching: the layers of a conflict map.

    Args:
        backbone: The backbone.
        parted: Layers of which a task tree gives groups of tasks a copy; they are left out.
    """
    own = {*task_specific_layers(backbone), *parted}
    return [layer for layer in shared_layers(backbone) if layer not in own]


def tree_groups(path: str | None, tasks: Sequence[str]) -> dict[str, Groups]:
    """Layer -> the groups of tasks that share a copy, by the file of a task tree.

    Args:
        path: The file; ``None`` for no tree.
        tasks: The tasks to train.

    Raises:
        ValueError: The file is no task tree, is damaged, or is of other tasks.
    """
    if path is None:
        return {}
    tree = TaskTree.load(path)
    tree.check_tasks(tasks)
    return dict(tree.groups)


def parted_layers(path: str | None) -> list[str]:
    """The layers that the file of a task tree parts; none without a file."""
    return [] if path is None else list(TaskTree.load(path).groups)


def check_fits(conflict_map: ConflictMap, backbone: nn.Module, parted: Collection[str] = ()) -> None:
    """Refuse a map that is neither of a network with a task tree nor of the plain one.

    Args:
        conflict_map: The map.
        backbone: The backbone.
        parted: The layers of which the tree gives groups of tasks a copy; none without a tree.

    Raises:
        ValueError: It has other layers.
    """
    if not parted or set(conflict_map.layers) != set(branchable_layers(backbone)):
        conflict_map.check_layers(branchable_layers(backbone, parted))


def _parted_further(
    tree: Mapping[str, Groups], names: Sequence[str], groups: Mapping[str, Groups], tasks: Sequence[str]
) -> dict[str, list[list[str]]]:
    """The groups in the layers of a tree, where layers chosen beside it part tasks further.

    Args:
        tree: Layer -> its groups, by the tree.
        names: The chosen layers, which have one copy per task without groups.
        groups: Chosen layer -> its groups.
        tasks: The tasks.
    """
    further: dict[str, list[list[str]]] = {}
    for layer, own in tree.items():
        chosen = groups.get(layer, [[task] for task in tasks] if layer in names else own)
        partition = meet(partition_of(own, tasks), partition_of(chosen, tasks))
        further[layer] = [list(group) for group in groups_of(partition, tasks)]
    return further


def _check_same_tasks(conflict_map: ConflictMap, tasks: Sequence[str]) -> None:
    """Raise a ValueError if a measured map is of other tasks than those to group."""
    if conflict_map.tasks and set(conflict_map.tasks) != set(tasks):
        raise ValueError(
            f"the conflict map is of the tasks {', '.join(conflict_map.tasks)}, and cannot group {', '.join(tasks)}; "
            "search with these tasks, or name groups"
        )


def _union(first: Sequence[str], second: Sequence[str]) -> list[str]:
    return [*first, *(layer for layer in second if layer not in set(first))]
