"""A benchmark plan: methods x variants x seeds."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from recon.branching import NamedInit, Statistics
from recon.configuration import read_yaml
from recon.conflict import DEFAULT_SEVERITY, DEFAULT_TOP, Rule
from recon.conflict.severity import severity_in_hundredths
from recon.experiments.entry import MethodEntry
from recon.experiments.fit import check_section
from recon.experiments.runs import Run, finder_of, runs_of, tries_layers_of_run
from recon.experiments.search import stop_options
from recon.experiments.typed import read_dataclass
from recon.files.folder_names import check_folder_name


@dataclass(frozen=True)
class Plan:
    """A benchmark: a configuration to train, and the methods, variants and seeds to compare.

    >>> plan = Plan.from_dict({
    ...     "name": "tiny",
    ...     "fit": {
    ...         "trainer": {"max_epochs": 2},
    ...         "model": {"backbone": {"class_path": "recon.models.LeNet"}},
    ...         "data": {"class_path": "recon.data.Glyphs"},
    ...     },
    ...     "methods": [{"method": "joint", "variants": ["plain", "recon"], "seeds": [0, 1]}],
    ...     "single": False,
    ... })
    >>> [run.id for run in plan.runs(["digit", "letter"])]
    ['joint-plain-seed0', 'joint-plain-seed1', 'joint-recon-seed0', 'joint-recon-seed1']

    Attributes:
        name: Name of the benchmark.
        fit: Configuration of ``recon fit``; each run is one such fit.
        methods: The methods and their variants and seeds; an entry may replace keys of
            ``fit.model``, so that one plan compares networks (:class:`MethodEntry`).
        top: k, the number of layers branched; an entry may have its own.
        select: A rule that selects the layers to branch instead, such as a budget; an entry may
            have its own.
        severity: Severity S at which the conflict map ranks.
        init: How branched copies start; see :func:`recon.branch`.
        statistics: Whether norms that stay shared behind a branch keep one set of running
            statistics, or one per task; see :func:`recon.branch`.
        every: Observe conflicts in each n-th step.
        map: File of a conflict map for all +Recon runs, or the name of a published ranking. It may
            come from other data or another width, as layers are matched by name. By default each
            seed's plain joint run finds its own. Random layers always differ from a map's.
        stop: When the searches for conflict maps end, ``{"stable": {"window": 200}}``; see
            :class:`recon.training.searching.stopping.Stable`, whose ``top`` and ``severity`` are
            the plan's by default. Searches are then runs of their own.
        proxy: Arguments of the backbone that make a narrow one with the same layers, on which the
            searches run instead, in runs of their own.
        single: Whether to train the single-task networks that delta-m compares with. They have the
            plan's own network.
        imports: Modules to import first, for methods of your own.
    """

    name: str
    fit: dict[str, Any]
    methods: tuple[MethodEntry, ...]
    top: int = DEFAULT_TOP
    select: Rule | None = None
    severity: float = DEFAULT_SEVERITY
    init: NamedInit = "copy"
    statistics: Statistics = "shared"
    every: int = 1
    map: str | None = None
    stop: dict[str, Any] | None = None
    proxy: dict[str, Any] | None = None
    width: str = "width"
    single: bool = True
    imports: tuple[str, ...] = ()

    @classmethod
    def load(cls, path: str | Path) -> "Plan":
        """Read a plan.

        Raises:
            ValueError: The file is not a plan: a key is unknown (the error suggests the nearest),
                missing or of another type.
        """
        content = read_yaml(path, "plan")
        try:
            if isinstance(content, dict) and "top" in content and content.get("select") is not None:
                raise ValueError("it has both top and select; give one: select takes a top too")
            return cls.from_dict(content)
        except ValueError as error:
            raise ValueError(f"plan {path}: {error}") from error

    @classmethod
    def from_dict(cls, content: Any) -> "Plan":
        """Build a plan from the content of its YAML; the errors are those of :meth:`load`.

        The key ``seeds`` gives seeds to the entries that name none: ``5`` for the seeds 0 to 4, or
        a list.
        """
        plan = read_dataclass(cls, _with_seeds(content), "a plan")
        check_section(plan.fit)
        return plan

    def to_dict(self) -> dict[str, Any]:
        """The plan as JSON."""
        content: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return content

    def map_of(self, entry: MethodEntry) -> str | None:
        """File of the conflict map that an entry's +Recon runs use; ``None`` if a run finds it."""
        return entry.map or self.map

    def rule_of(self, entry: MethodEntry) -> Rule:
        """The rule that selects the layers that an entry's runs branch."""
        if entry.top is not None:
            return Rule(top=entry.top)
        return entry.select or self.select or Rule(top=self.top)

    def width_of(self, entry: MethodEntry) -> str:
        """The argument that sets the width of an entry's backbone."""
        return self.width if entry.width is None else entry.width

    @property
    def searches_apart(self) -> bool:
        """Whether conflict maps come from runs of their own, instead of plain joint runs."""
        return self.stop is not None or self.proxy is not None

    @property
    def maps(self) -> list[str]:
        """The files of conflict maps that the plan names, each once."""
        return sorted({path for entry in self.methods if (path := self.map_of(entry)) is not None})

    @property
    def trees(self) -> list[str]:
        """The files of task trees that the plan names, each once."""
        return sorted({entry.tree for entry in self.methods if entry.tree is not None})

    def check(self) -> None:
        """Check names, values and dependencies; call it once the plan's ``imports`` are imported.

        Raises:
            ValueError: A method, hyperparameter or variant is unknown, a value is out of range,
                there are no runs or two of one id, or +Recon has no map to take layers from.
        """
        check_folder_name(self.name, "name of the plan")
        severity_in_hundredths(self.severity)
        for key in ("top", "every"):
            if getattr(self, key) < 1:
                raise ValueError(f"{key} must be at least 1, got {getattr(self, key)}")
        stop_options(self.stop, self.top, self.severity)
        for entry in self.methods:
            entry.check()
            rule = self.rule_of(entry)
            if entry.groups is not None and rule.needs_prices:
                raise ValueError(
                    f"method {entry.label} has groups and the budget {rule}, which counts a copy per task; "
                    "give growth, a budget of copies for groups"
                )
            _check_sweep(self, entry)
            uses_map = entry.uses_map or (not rule.is_top and entry.branches_top)
            if uses_map and self.map_of(entry) is None and finder_of(self, entry) is None:
                own = "a model" if entry.model else "a tree"
                raise ValueError(
                    f"method {entry.label} has {own} of its own, and no joint entry has the same to find its "
                    "conflict map; add one, or name a map file"
                )
        self.check_runs(tasks=())
        if self.searches_apart and not any(run.variant == "search" for run in self.runs(())):
            raise ValueError(
                "stop and proxy are of searches for conflict maps, and no run needs one; add the variant recon to an "
                "entry without a map, or leave them out"
            )

    def check_runs(self, tasks: Iterable[str]) -> None:
        """Check that the runs for these tasks have ids of their own, and maps to take layers from.

        Raises:
            ValueError: Two runs have one id, a run has no map, or there is no run.
        """
        runs = self.runs(tasks)
        ids = [run.id.casefold() for run in runs]  # some file systems take "A" and "a" for one
        if not runs:
            raise ValueError("there is nothing to run; give methods, each with variants and seeds")
        for run in runs:
            if ids.count(run.id.casefold()) > 1:
                raise ValueError(f"two runs are called {run.id!r}; give one of the entries a name of its own")
            if run.needs is not None and run.needs.casefold() not in ids:
                raise ValueError(
                    f"{run.id} takes its layers from {run.needs}, which the plan does not run; "
                    f"add seed {run.seed} and 'plain' to the joint entry, or name a map file"
                )

    def runs(self, tasks: Iterable[str]) -> list[Run]:
        """All runs in the order of the tables: single tasks first, then the methods in order."""
        return runs_of(self, tasks)


def _check_sweep(plan: Plan, entry: MethodEntry) -> None:
    """Refuse a sweep over layers of a map that comes from a run with its best setting."""
    if tries_layers_of_run(plan, entry) and finder_of(plan, entry) == entry.label:
        raise ValueError(
            f"method {entry.label} has a sweep over layers of the map that it finds itself; name a map file, "
            "or give the sweep to another entry"
        )


def _with_seeds(content: Any) -> Any:
    """The content of a plan whose entries without seeds have those of its key ``seeds``."""
    if not isinstance(content, dict) or "seeds" not in content:
        return content
    rest = {key: value for key, value in content.items() if key != "seeds"}
    seeds, entries = content["seeds"], rest.get("methods")
    if type(seeds) is int and seeds > 0:
        seeds = list(range(seeds))
    if not isinstance(seeds, list) or not seeds:
        raise ValueError(f"seeds must be a number of seeds from 1, or a list of them, got {seeds!r}")
    if isinstance(entries, list):
        rest["methods"] = [{"seeds": seeds, **entry} if isinstance(entry, dict) else entry for entry in entries]
    return rest
