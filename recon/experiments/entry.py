"""A method's entry in a plan: its hyperparameters, and how it is run."""

import json
import math
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from recon.conflict import Rule
from recon.engine.checks import At, check_weights_representations
from recon.engine.groups import check_weighs_groups
from recon.engine.memory import Memory, check_memory
from recon.errors import unknown_name
from recon.experiments.fit import SET_IN_MODEL
from recon.experiments.grid import check_grid, points
from recon.experiments.resources import Resources
from recon.experiments.sweep import OF_PLAN, check_sweep
from recon.files.folder_names import check_folder_name
from recon.methods import create_method
from recon.methods.base.registry import method_name

Variant = Literal[
    "single",
    "grid",
    "search",
    "plain",
    "recon",
    "random",
    "random_parameters",
    "random_flops",
    "first",
    "last",
    "least",
    "norms",
    "norms_random",
    "wide_parameters",
    "wide_flops",
]
VARIANTS: tuple[str, ...] = get_args(Variant)[3:]
"""Those of an entry."""

UNTESTED = ("grid", "search")
"""Runs that a plan adds by itself, and that never see the test data."""

WIDER = ("wide_parameters", "wide_flops")
"""Variants without branches, whose network is wider."""

UNBRANCHED = ("plain", *UNTESTED, *WIDER)
"""Variants that branch no layers of their own; a grid does that tries numbers of layers."""

BY_MAP = ("recon", "random_parameters", "random_flops", "least", *WIDER)
"""Variants that need a conflict map: for their layers, or for the price of the +Recon run."""

BY_NUMBER = ("random", "first", "last", "least")
"""Controls that branch as many layers as the +Recon run."""


@dataclass(frozen=True)
class MethodEntry:
    """A method and how it is run.

    >>> MethodEntry("cagrad", options={"c": 0.2}, name="cagrad-mild").label
    'cagrad-mild'

    Attributes:
        method: Registered name.
        options: Its hyperparameters.
        variants: ``plain``; ``recon``: the top-k layers of the conflict map branched; and the
            controls of :mod:`recon.experiments.controls`.
        seeds: One run each.
        name: Stands for the method in ids and tables, for plans that have it twice with different
            options, maps or models.
        map: File of a conflict map for these +Recon runs, instead of the plan's.
        top: k, the number of layers branched in these runs, instead of the plan's.
        select: A rule that selects these layers instead, such as a budget; see
            :class:`recon.conflict.Rule`. Controls branch as many layers as it selects.
        at: Where a Gramian method takes the task gradients; ``representation`` needs
            ``variants: [plain]``.
        granularity: ``layer``, or groups of layers by name, let a Gramian method weigh the tasks in
            each by itself; see :class:`recon.Engine`. Layers that a variant branches are in none.
        memory: ``gramian`` trains in the memory of about one task gradient, in more time; see
            :class:`recon.Engine`.
        groups: Groups of tasks that share a copy in the +Recon runs: a number of groups in every
            branched layer, or ``friends``: tasks whose mean cosine in the layer is the severity or
            more share. By default every task has a copy. Needs a measured conflict map.
        growth: The growth of the shared parameters that the +Recon runs spend on copies for groups,
            0.05 for +5 %, instead of branching the top layers: the worst foes part, in whichever
            layer they are. Needs a measured conflict map, and the variant ``recon``; controls of k
            layers do not go with it.
        model: Keys of ``fit.model`` that these runs replace, such as another backbone. Needs a
            ``name``. The +Recon runs take their layers from a joint entry with the same ``model``
            and ``tree``, or from a map.
        grid: Dotted key -> values to choose from, such as ``options.weights``; see
            :mod:`recon.experiments.grid`. All variants then train with the chosen values.
        held_out: The share of the training data on which they are chosen.
        grid_seeds: How many of the seeds each point of the grid is trained with.
        sweep: Dotted key -> values or a range, from which Optuna proposes settings, instead of a
            grid; see :mod:`recon.experiments.sweep`. It may be over ``top`` and ``severity`` too.
        trials: How many settings it proposes.
        width: The argument of the backbone that sets its width, for the wider networks, instead of
            the plan's.
        resources: What each of these runs takes of a cluster, where it differs from the others.
        tree: File of a task tree, by which these runs share stages, and which +Recon parts further;
            see :class:`recon.training.BranchOptions`. Needs a ``name``.
    """

    method: str
    options: dict[str, Any] = field(default_factory=dict)
    variants: tuple[str, ...] = ("plain", "recon")
    seeds: tuple[int, ...] = (0,)
    name: str = ""
    map: str | None = None
    top: int | None = None
    select: Rule | None = None
    at: At = "parameters"
    granularity: Literal["network", "layer"] | dict[str, Any] = "network"
    memory: Memory = "jacobian"
    groups: int | Literal["friends"] | None = None
    growth: float | None = None
    model: dict[str, Any] = field(default_factory=dict)
    tree: str | None = None
    grid: dict[str, Any] = field(default_factory=dict)
    held_out: float | None = None
    grid_seeds: int = 1
    sweep: dict[str, Any] = field(default_factory=dict)
    trials: int | None = None
    resources: Resources | None = None
    width: str | None = None

    @property
    def label(self) -> str:
        """Name of the entry in ids and tables."""
        return self.name or self.method

    @property
    def is_joint(self) -> bool:
        """Whether the method is joint training, which finds conflict maps."""
        return method_name(self.method) == "joint"

    @property
    def uses_map(self) -> bool:
        """Whether a variant needs a conflict map."""
        return not set(BY_MAP).isdisjoint(self.variants)

    @property
    def branches_top(self) -> bool:
        """Whether a variant depends on k, the number of layers that + Recon branches."""
        return self.growth is None and not {*BY_MAP, *BY_NUMBER}.isdisjoint(self.variants)

    @property
    def settings(self) -> int:
        """How many settings its grid or its sweep tries; 0 without either."""
        return len(points(self.grid)) if self.trials is None else self.trials

    @property
    def sweeps_layers(self) -> bool:
        """Whether its sweep is over the number of branched layers or their severity."""
        return not set(OF_PLAN).isdisjoint(self.sweep)

    @property
    def network(self) -> str:
        """A text that is the same for entries that train the same network."""
        return json.dumps([self.model, self.tree], sort_keys=True)

    @property
    def has_own_network(self) -> bool:
        """Whether the entry trains another network than the plan's."""
        return bool(self.model) or self.tree is not None

    def check(self) -> None:
        """Check one entry for :meth:`Plan.check`.

        Raises:
            ValueError: A name or a value is refused.
        """
        method = create_method(self.method, **self.options)
        check_folder_name(self.label, f"name of the entry {self.method}")
        if self.label == "joint" and not self.is_joint:
            raise ValueError(f"an entry named 'joint' runs {self.method}, and conflict maps are joint's; name it anew")
        for key in ("variants", "seeds"):
            if not getattr(self, key):
                raise ValueError(f"method {self.label} has no {key}, so it would not run; give some, or take it out")
        for seed in self.seeds:
            if not 0 <= seed < 2**32:
                raise ValueError(f"method {self.label} has the seed {seed}; a seed is from 0 to 2**32 - 1")
        for variant in self.variants:
            if variant not in VARIANTS:
                raise unknown_name("variant", variant, VARIANTS, where=f"method {self.label}")
        if self.map is not None and not self.uses_map:
            raise ValueError(f"method {self.label} has a map and no variant 'recon' that uses it; add it to variants")
        if self.top is not None and self.top < 1:
            raise ValueError(f"method {self.label} has top: {self.top}; give 1 or more")
        if self.top is not None and self.select is not None:
            raise ValueError(f"method {self.label} has both top and select; give one: select takes a top too")
        for key in ("top", "select"):
            if getattr(self, key) is not None and self.growth is None and not self.branches_top:
                raise ValueError(f"method {self.label} has a {key} and no variant that branches; add recon")
        if self.groups is not None and "recon" not in self.variants:
            raise ValueError(f"method {self.label} has groups and no variant 'recon' that has them; add it to variants")
        if isinstance(self.groups, int) and self.groups < 2:
            raise ValueError(f"method {self.label} has groups: {self.groups}; give 2 or more, or 'friends'")
        self._check_settings()
        if self.resources is not None:
            self.resources.check(f"method {self.label}")
        if not 1 <= self.grid_seeds <= len(self.seeds):
            raise ValueError(f"method {self.label} has grid_seeds: {self.grid_seeds}; give 1 to {len(self.seeds)}")
        self._check_growth()
        self._check_model()
        if self.granularity != "network":
            check_weighs_groups(method)
        check_memory(self.memory, method, self.at, self.granularity == "network", tasks=2)
        if self.at == "representation":
            check_weights_representations(method)
            if self.variants != ("plain",):
                raise ValueError(
                    f"method {self.label}: a branched network has no single representation; "
                    f"with at: representation give variants: [plain], got {list(self.variants)}"
                )

    def _check_settings(self) -> None:
        if bool(self.sweep) != (self.trials is not None):
            raise ValueError(f"method {self.label} has one of sweep and trials; give both, or neither")
        if self.sweep and self.grid:
            raise ValueError(f"method {self.label} has both a grid and a sweep; give one")
        if not self.sweep:
            check_grid(self.grid, self.held_out, self.label)
            return
        check_sweep(self.sweep, self.trials, self.held_out, self.label)
        if self.sweeps_layers and (self.growth is not None or "recon" not in self.variants):
            raise ValueError(
                f"method {self.label} has a sweep over {' and '.join(OF_PLAN)}, which are of the layers of recon; add "
                "recon to variants, without growth"
            )

    def _check_growth(self) -> None:
        if self.growth is None:
            return
        if not 0 < self.growth < math.inf:
            raise ValueError(f"method {self.label} has growth: {self.growth}; give a positive share: 0.05 is +5 %")
        if "recon" not in self.variants or not set(BY_NUMBER).isdisjoint(self.variants):
            raise ValueError(
                f"method {self.label} has growth and the variants {', '.join(self.variants)}; give recon, beside plain "
                f"or alone: {', '.join(BY_NUMBER)} branch a number of layers"
            )
        for key in ("top", "select", "groups"):
            if getattr(self, key) is not None:
                raise ValueError(f"method {self.label} has both growth and {key}; give one")

    def _check_model(self) -> None:
        own = "a model" if self.model else "a tree"
        if self.has_own_network and not self.name:
            raise ValueError(f"method {self.label} has {own} of its own; give the entry a name, for ids and tables")
        if self.has_own_network and self.label == "joint":
            raise ValueError(f"an entry named 'joint' has {own} of its own, and finds no maps for others; name it anew")
        for key in SET_IN_MODEL:
            if key in self.model:
                raise ValueError(f"method {self.label}: model.{key} is set by the benchmark, run by run; leave it out")


def tried_run(entry: MethodEntry, place: int, seed: int) -> str:
    """Id of a run that tries a setting of an entry's grid or sweep.

    >>> tried_run(MethodEntry("cagrad"), 3, 0)
    'cagrad-grid3-seed0'

    Args:
        entry: The entry.
        place: The place in the grid or the sweep, from 0.
        seed: The seed.
    """
    return f"{entry.label}-{'sweep' if entry.sweep else 'grid'}{place}-seed{seed}"
