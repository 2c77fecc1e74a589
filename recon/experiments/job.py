"""A run with everything that carries it out: its plan, its fit and the folder of its results."""

from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from recon.branching import TaskTree
from recon.conflict import ConflictMap, first_layers, last_layers, random_layers, read_map
from recon.experiments.choice import choice_of, setting_at
from recon.experiments.controls import EqualPrice, norms_of, random_as_many_as_norms
from recon.experiments.entry import UNBRANCHED, WIDER
from recon.experiments.fit import Fit
from recon.experiments.folder import ResultsFolder
from recon.experiments.grid import Setting, holding_out, with_setting
from recon.experiments.plan import Plan
from recon.experiments.runs import Run
from recon.experiments.search import narrow
from recon.experiments.selection import selected_layers
from recon.experiments.sweep import OF_PLAN
from recon.training.branch_options import BranchOptions, branchable_layers, check_fits, parted_layers


@dataclass(frozen=True)
class Job:
    """One run of a plan, ready to be carried out in this process or sent to another.

    Attributes:
        plan: The plan.
        run: The run.
        fit: The plan's ``fit`` with the folder of the data.
        folder: Where results are kept.
    """

    plan: Plan
    run: Run
    fit: Fit
    folder: ResultsFolder

    def own_fit(self) -> Fit:
        """The fit that repeats this run by ``recon fit``; its branched layers are named."""
        own = self.fit_before_proxy()
        return narrow(own, self.plan.proxy) if self.run.variant == "search" else own

    def fit_before_proxy(self) -> Fit:
        """The fit with the network of which a search writes the map, for a search by a proxy."""
        setting = self.setting()
        job = self._with_values_of_plan(setting)
        fit = job._wider() if self.run.variant in WIDER else self.network()
        others = {key: value for key, value in setting.items() if key not in OF_PLAN}
        own = with_setting(fit.with_model(job._model(), seed_everything=self.run.seed), others)
        share = self.run.entry.held_out
        return own if self.run.variant != "grid" or share is None else holding_out(own, share)

    def network(self) -> Fit:
        """The fit with the network of the run's entry, before it is branched or made wider."""
        return self.fit.with_model(self.run.entry.model)

    def setting(self) -> Setting:
        """The setting of the entry's grid or sweep that the run trains."""
        if self.run.point is not None:
            return setting_at(self.run.entry, self.run.point, self.folder, self.fit.tasks())
        return choice_of(self.run.entry, self.folder, self.fit.tasks()).chosen if self.run.grid else {}

    def _with_values_of_plan(self, setting: Setting) -> "Job":
        """The job with a setting's values of the plan, which say what layers are branched."""
        entry, severity = self.run.entry, setting.get("severity", self.plan.severity)
        if "top" in setting:
            entry = replace(entry, top=setting["top"], select=None)
        return replace(self, plan=replace(self.plan, severity=severity), run=replace(self.run, entry=entry))

    def _model(self) -> dict[str, Any]:
        """The values of ``model`` that the run sets."""
        entry = self.run.entry
        values: dict[str, Any] = {"method": entry.method, "method_options": dict(entry.options)}
        if self.run.task is not None:
            return values | {"only": [self.run.task]}
        # Plain training branches too: the backbone may have task-specific layers of its own.
        by_map = self.run.variant == "recon" or (self.run.variant == "grid" and entry.sweeps_layers)
        branch: dict[str, Any] = self._by_map() if by_map else {"layers": self._layers()}
        if entry.tree is not None:
            branch |= self._beside_tree(entry.tree, branch["layers"], branch.get("groups"))
        branch |= {"init": self.plan.init, "statistics": self.plan.statistics}
        return values | {"branch": branch, "at": entry.at, "granularity": entry.granularity, "memory": entry.memory}

    def _by_map(self) -> dict[str, Any]:
        """The layers that the +Recon run branches, and groups of tasks in them."""
        entry = self.run.entry
        if entry.growth is not None:
            groups = self._groups_within(entry.growth)
            return {"layers": list(groups), "groups": groups}
        layers = self.selected_layers(self.network().backbone())
        return {"layers": layers} | ({} if entry.groups is None else {"groups": self._groups(layers, entry.groups)})

    def _layers(self) -> list[str]:
        """The layers that a run other than +Recon branches."""
        variant, seed = self.run.variant, self.run.seed
        if variant in UNBRANCHED:
            return []
        backbone = self.network().backbone()
        parted = parted_layers(self.run.entry.tree)
        layers = branchable_layers(backbone, parted)
        if variant == "norms":
            return norms_of(backbone, layers)
        if variant == "norms_random":
            return random_as_many_as_norms(backbone, layers, seed)
        if variant == "random_parameters":
            return self._equal_price().random_parameters(seed)
        if variant == "random_flops":
            return self._equal_price().random_flops(seed)
        return self._as_many(backbone, layers)

    def _as_many(self, backbone: nn.Module, layers: list[str]) -> list[str]:
        """As many layers as the +Recon run branches, for a control."""
        rule, variant = self.plan.rule_of(self.run.entry), self.run.variant
        selected = [] if rule.is_top and variant != "random" else self.selected_layers(backbone)
        number = rule.top if rule.is_top and rule.top is not None else len(selected)
        match variant:
            case "first":
                return first_layers(layers, number)
            case "last":
                return last_layers(layers, number)
            case "least":
                return self._ranked(backbone)[-number:][::-1]
            case _:  # random: must differ from the map's, which with few layers chance may repeat
                return random_layers(layers, number, self.run.seed, other_than=selected)

    def _wider(self) -> Fit:
        """The fit of a wider network at the price of the +Recon run."""
        argument = self.plan.width_of(self.run.entry)
        if self.run.variant == "wide_parameters":
            return self._equal_price().wide_parameters(argument)
        return self._equal_price().wide_flops(argument)

    def _equal_price(self) -> EqualPrice:
        """The controls at the price of the +Recon run of this entry and seed."""
        entry, branch = self.run.entry, self._by_map()
        if entry.tree is not None:
            branch = self._beside_tree(entry.tree, branch["layers"], branch.get("groups"))
        return EqualPrice(self.network(), BranchOptions(**branch), entry.tree)

    def _groups(self, layers: list[str], groups: int | str) -> dict[str, list[list[str]]]:
        """The groups of tasks that share a copy of each layer."""
        conflict_map = self._map()
        assert conflict_map is not None  # the run takes its layers from it
        number = groups if isinstance(groups, int) else None
        return {layer: conflict_map.groups(layer, self.plan.severity, number) for layer in layers}

    def _groups_within(self, growth: float) -> dict[str, list[list[str]]]:
        """The layers to branch within a growth of parameters, and their groups of tasks."""
        conflict_map = self._map()
        assert conflict_map is not None  # the run takes its layers from it
        check_fits(conflict_map, self.network().backbone(), parted_layers(self.run.entry.tree))
        groups = conflict_map.groups_within(growth, self.plan.severity)
        if not groups:
            raise ValueError(
                f"method {self.run.label}: growth: {growth} parts no tasks at the severity {self.plan.severity}; give "
                "more, or a severity nearer to 0"
            )
        return groups

    def _beside_tree(self, path: str, layers: list[str], groups: dict[str, list[list[str]]] | None) -> dict[str, Any]:
        """Layers and groups by name, of a task tree and of the layers branched beside it."""
        options = BranchOptions(layers=layers, groups=groups, tree=path)
        named = options.by_name(self.network().backbone(), TaskTree.load(path).tasks)
        return {"layers": named.layers, "groups": named.groups}

    def _map(self) -> ConflictMap | None:
        """The run's conflict map; ``None`` if there is none for it."""
        found = self.plan.map_of(self.run.entry)
        if found is None and self.run.needs is not None:
            found = str(self.folder.conflict_map(self.run.needs))
        return None if found is None else read_map(found, self.plan.severity)

    def selected_layers(self, backbone: nn.Module) -> list[str]:
        """The layers that the run's rule selects by its conflict map, highest score first.

        Args:
            backbone: The backbone of the run.

        Returns:
            The layers; none if there is no map for the run.
        """
        conflict_map = self._map()
        if conflict_map is None:
            return []
        entry = self.run.entry
        check_fits(conflict_map, backbone, parted_layers(entry.tree))
        rule = self.plan.rule_of(entry)
        return selected_layers(conflict_map, rule, self.plan.severity, self.network(), backbone, entry.tree)

    def _ranked(self, backbone: nn.Module) -> list[str]:
        """All layers by the run's conflict map, the worst first."""
        conflict_map = self._map()
        assert conflict_map is not None  # the run needs it
        check_fits(conflict_map, backbone, parted_layers(self.run.entry.tree))
        return conflict_map.top(len(conflict_map.layers), self.plan.severity)
