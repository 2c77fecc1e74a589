"""The runs of a plan, and which of them wait for others."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from recon.conflict import Rule
from recon.experiments.entry import BY_MAP, BY_NUMBER, MethodEntry, Variant, tried_run
from recon.experiments.sweep import before


@dataclass(frozen=True)
class Run:
    """One training run of a plan.

    Attributes:
        id: Unique in the plan; names the run's folder.
        label: Name of the method in ids and tables.
        variant: Which layers are branched, or ``single`` for one task alone.
        seed: Seeds weights, data order and the method's randomness.
        entry: The plan's entry it comes from; joint training for single tasks.
        task: The only task, for single-task runs.
        needs: Id of the run whose conflict map this one takes its layers from.
        grid: Ids of the runs of the entry's grid or sweep from whose scores the setting follows.
        point: The place in the grid or sweep, for a run of it.
    """

    id: str
    label: str
    variant: Variant
    seed: int
    entry: MethodEntry
    task: str | None = None
    needs: str | None = None
    grid: tuple[str, ...] = ()
    point: int | None = None

    @property
    def waits_for(self) -> tuple[str, ...]:
        """Ids of the runs that must be finished before."""
        return self.grid if self.needs is None else (*self.grid, self.needs)


class Entries(Protocol):
    """What the runs of a plan follow from: its entries, and where they take their layers from."""

    @property
    def methods(self) -> tuple[MethodEntry, ...]: ...

    @property
    def single(self) -> bool: ...

    @property
    def searches_apart(self) -> bool: ...

    def map_of(self, entry: MethodEntry) -> str | None: ...

    def rule_of(self, entry: MethodEntry) -> Rule: ...


def runs_of(plan: Entries, tasks: Iterable[str]) -> list[Run]:
    """All runs of a plan in the order of the tables: single tasks first, then the methods in order.

    Args:
        plan: The plan.
        tasks: Names of the tasks of its data.
    """
    seeds = sorted({seed for entry in plan.methods for seed in entry.seeds})
    runs = []
    if plan.single:
        joint = MethodEntry("joint")
        runs = [
            Run(f"single-{task}-seed{seed}", "single", "single", seed, joint, task) for seed in seeds for task in tasks
        ]
    for entry in plan.methods:
        runs += _tries(plan, entry)
        runs += [_run(plan, entry, variant, seed) for variant in entry.variants for seed in entry.seeds]
    return runs + _searches(plan, runs)


def _run(plan: Entries, entry: MethodEntry, variant: Any, seed: int) -> Run:
    needs = None
    if plan.map_of(entry) is None and _needs_map(plan, entry, variant, seed):
        needs = _run_of_map(plan, entry, seed)
    grid = _names_of_tries(entry, range(entry.settings))
    return Run(f"{entry.label}-{variant}-seed{seed}", entry.label, variant, seed, entry, needs=needs, grid=grid)


def _needs_map(plan: Entries, entry: MethodEntry, variant: str, seed: int) -> bool:
    """Whether a variant takes its layers, or how many they are, from a conflict map."""
    counts = variant in BY_NUMBER and not plan.rule_of(entry).is_top
    return variant in BY_MAP or counts or (variant == "random" and _has_recon(plan, entry, seed))


def _tries(plan: Entries, entry: MethodEntry) -> list[Run]:
    """The runs that try the settings of an entry's grid or sweep."""
    runs = []
    for place in range(entry.settings):
        waits = _names_of_tries(entry, before(place) if entry.sweep else ())
        for seed in entry.seeds[: entry.grid_seeds]:
            needs = _run_of_map(plan, entry, seed) if tries_layers_of_run(plan, entry) else None
            run_id = tried_run(entry, place, seed)
            runs.append(Run(run_id, entry.label, "grid", seed, entry, needs=needs, grid=waits, point=place))
    return runs


def tries_layers_of_run(plan: Entries, entry: MethodEntry) -> bool:
    """Whether an entry sweeps over the layers of a map that a run of the plan finds."""
    return entry.sweeps_layers and plan.map_of(entry) is None


def _names_of_tries(entry: MethodEntry, places: Iterable[int]) -> tuple[str, ...]:
    """Ids of the runs that try settings of an entry."""
    return tuple(tried_run(entry, place, seed) for place in places for seed in entry.seeds[: entry.grid_seeds])


def _searches(plan: Entries, runs: Iterable[Run]) -> list[Run]:
    """The runs that only find the conflict maps of others, if the plan has such."""
    found: dict[str, Run] = {}
    for run in runs:
        if run.needs is not None and plan.searches_apart:
            finder = _finding_entry(plan, run.entry)
            grid = _names_of_tries(finder, range(finder.settings))
            found[run.needs] = Run(run.needs, finder.label, "search", run.seed, finder, grid=grid)
    return list(found.values())


def finder_of(plan: Entries, entry: MethodEntry) -> str | None:
    """Label of the joint entry that finds the conflict maps of an entry's network."""
    labels = [one.label for one in plan.methods if one.network == entry.network and one.is_joint]
    if entry.has_own_network:
        return labels[0] if labels else None
    return labels[0] if labels and "joint" not in labels else "joint"


def _run_of_map(plan: Entries, entry: MethodEntry, seed: int) -> str:
    """Id of the run that finds the conflict map of an entry's network."""
    return f"{finder_of(plan, entry)}-{'search' if plan.searches_apart else 'plain'}-seed{seed}"


def _finding_entry(plan: Entries, entry: MethodEntry) -> MethodEntry:
    """The joint entry that finds the conflict maps of an entry's network."""
    label = finder_of(plan, entry)
    found = (one for one in plan.methods if one.is_joint and one.network == entry.network and one.label == label)
    return next(found, MethodEntry("joint"))


def _has_recon(plan: Entries, entry: MethodEntry, seed: int) -> bool:
    """Whether an entry's network has +Recon runs of a seed, from which random runs differ."""
    return any(
        "recon" in one.variants and plan.map_of(one) is None and seed in one.seeds
        for one in plan.methods
        if one.network == entry.network
    )
