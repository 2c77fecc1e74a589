"""A benchmark plan: methods x variants x seeds, and the runs it comes to."""

from collections.abc import Iterable
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args, get_origin

from recon.branching import NamedInit, Statistics
from recon.configuration import read_yaml
from recon.conflict import DEFAULT_SEVERITY, DEFAULT_TOP
from recon.conflict.severity import severity_in_hundredths
from recon.engine.checks import At, check_weights_representations
from recon.errors import unknown_name
from recon.experiments.fit import check_section
from recon.files.folder_names import check_folder_name
from recon.methods import create_method
from recon.methods.base.registry import method_name

Variant = Literal["single", "plain", "recon", "random", "first", "last"]
VARIANTS: tuple[str, ...] = get_args(Variant)


@dataclass(frozen=True)
class Entry:
    """A method and how it is run.

    Attributes:
        method: Registered name.
        options: Its hyperparameters.
        variants: ``plain``; ``recon``: the top-k layers of the conflict map branched; controls ``random``, ``first``,
            ``last``: k other layers branched.
        seeds: One run each.
        name: Stands for the method in ids and tables, when a plan has it twice with different options or maps.
        map: File of a conflict map for these +Recon runs, instead of the plan's.
        at: Where a Gramian method takes the task gradients; ``representation`` is for plain training only.
    """

    method: str
    options: dict[str, Any] = field(default_factory=dict)
    variants: tuple[str, ...] = ("plain", "recon")
    seeds: tuple[int, ...] = (0,)
    name: str = ""
    map: str | None = None
    at: At = "parameters"

    @property
    def label(self) -> str:
        return self.name or self.method

    def check(self) -> None:
        """Check what :meth:`Plan.check` says of each entry."""
        method = create_method(self.method, **self.options)
        check_folder_name(self.label, f"name of the entry {self.method}")
        if self.label == "joint" and method_name(self.method) != "joint":
            raise ValueError(f"an entry named 'joint' runs {self.method}, and conflict maps are joint's; name it anew")
        for key in ("variants", "seeds"):
            if not getattr(self, key):
                raise ValueError(f"method {self.label} has no {key}, so it would not run; give some, or take it out")
        for seed in self.seeds:
            if not 0 <= seed < 2**32:
                raise ValueError(f"method {self.label} has the seed {seed}; a seed is from 0 to 2**32 - 1")
        for variant in self.variants:
            if variant not in VARIANTS[1:]:
                raise unknown_name("variant", variant, VARIANTS[1:], where=f"method {self.label}")
        if self.map is not None and "recon" not in self.variants:
            raise ValueError(f"method {self.label} has a map and no variant 'recon' that uses it; add it to variants")
        if self.at == "representation":
            check_weights_representations(method)
            if self.variants != ("plain",):
                raise ValueError(
                    f"method {self.label}: a branched network has no single representation; "
                    f"with at: representation give variants: [plain], got {list(self.variants)}"
                )


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
    """

    id: str
    label: str
    variant: Variant
    seed: int
    entry: Entry
    task: str | None = None
    needs: str | None = None


@dataclass(frozen=True)
class Plan:
    """A benchmark: what to train, with which methods, how often.

    Attributes:
        name: Names the benchmark.
        fit: Configuration that ``recon fit`` would take; each run is one such fit.
        methods: The methods and their variants and seeds.
        top: k, the number of layers branched.
        severity: Severity S at which the conflict map ranks.
        init: How branched copies start; see :func:`recon.branch`.
        statistics: Whether norms that stay shared behind a branch keep one set of running statistics, or one per task;
            see :func:`recon.branch`.
        every: Observe conflicts in each n-th step.
        map: File of a conflict map for all +Recon runs, or the name of a published ranking, found on any data or
            width: layer names are the key. By default each seed's plain joint run finds its own. Random
            layers are never just those that a map selects.
        single: Whether to train the single-task networks that delta-m compares with.
        imports: Modules to import first, for methods of your own.
    """

    name: str
    fit: dict[str, Any]
    methods: tuple[Entry, ...]
    top: int = DEFAULT_TOP
    severity: float = DEFAULT_SEVERITY
    init: NamedInit = "copy"
    statistics: Statistics = "shared"
    every: int = 1
    map: str | None = None
    single: bool = True
    imports: tuple[str, ...] = ()

    @classmethod
    def load(cls, path: str | Path) -> "Plan":
        """Read a plan.

        Raises:
            ValueError: The file is not a plan: a key is unknown (the nearest is named), missing or of another type.
        """
        content = read_yaml(path, "plan")
        try:
            return cls.from_dict(content)
        except ValueError as error:
            raise ValueError(f"plan {path}: {error}") from error

    @classmethod
    def from_dict(cls, content: Any) -> "Plan":
        """Build a plan from what its YAML says; the errors are those of :meth:`load`."""
        plan = _read(cls, content, "")
        assert isinstance(plan, Plan)
        check_section(plan.fit)
        return plan

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return _plain(asdict(self))

    def map_of(self, entry: Entry) -> str | None:
        """File of the conflict map that an entry's +Recon runs take their layers from, if it is there beforehand."""
        return entry.map or self.map

    @property
    def maps(self) -> list[str]:
        """The conflict maps that are there beforehand, each once."""
        return sorted({path for entry in self.methods if (path := self.map_of(entry)) is not None})

    def check(self) -> None:
        """Check names, values and dependencies; call it once the plan's ``imports`` are imported.

        Raises:
            ValueError: An unknown method, hyperparameter or variant, a value out of range, no runs or two of one id,
                or +Recon without a map to take layers from.
        """
        check_folder_name(self.name, "name of the plan")
        severity_in_hundredths(self.severity)
        for key in ("top", "every"):
            if getattr(self, key) < 1:
                raise ValueError(f"{key} must be at least 1, got {getattr(self, key)}")
        for entry in self.methods:
            entry.check()
        self.check_runs(tasks=())

    def check_runs(self, tasks: Iterable[str]) -> None:
        """Check that the runs for these tasks have ids of their own, and maps to take layers from.

        Raises:
            ValueError: They have not, or there are none.
        """
        runs = self.runs(tasks)
        ids = [run.id.casefold() for run in runs]  # folders "A" and "a" are one on some file systems
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
        """All runs, in the order of the tables: single tasks first, then the methods as the plan has them."""
        seeds = sorted({seed for entry in self.methods for seed in entry.seeds})
        runs = []
        if self.single:
            joint = Entry("joint")
            runs = [
                Run(f"single-{task}-seed{seed}", "single", "single", seed, joint, task)
                for seed in seeds
                for task in tasks
            ]
        return runs + [
            self._run(entry, variant, seed)
            for entry in self.methods
            for variant in entry.variants
            for seed in entry.seeds
        ]

    def _run(self, entry: Entry, variant: Any, seed: int) -> Run:
        needs = None
        if self.map_of(entry) is None and (variant == "recon" or (variant == "random" and self._searches(seed))):
            needs = f"joint-plain-seed{seed}"
        return Run(f"{entry.label}-{variant}-seed{seed}", entry.label, variant, seed, entry, needs=needs)

    def _searches(self, seed: int) -> bool:
        """Whether a map is found for +Recon runs of this seed; random layers must be others than Recon's."""
        return any(
            "recon" in entry.variants and self.map_of(entry) is None and seed in entry.seeds for entry in self.methods
        )


_TYPES = {str: "text", int: "a whole number", float: "a number", bool: "true or false", dict: "a mapping of keys"}


def _read(kind: Any, value: Any, where: str) -> Any:
    """A value of YAML as the type ``kind``; ``where`` is the key it stands under."""
    if isinstance(kind, UnionType):  # X | None
        return None if value is None else _read(get_args(kind)[0], value, where)
    if is_dataclass(kind):
        return _read_fields(kind, value, where)
    if get_origin(kind) is tuple:
        if not isinstance(value, list | tuple):
            raise ValueError(f"{where} must be a list, got {value!r}")
        return tuple(_read(get_args(kind)[0], item, f"{where}[{index}]") for index, item in enumerate(value))
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise unknown_name(where, str(value), get_args(kind))
        return value
    kind = get_origin(kind) or kind
    # Held against type(value) and not by isinstance, which takes true for an integer.
    if type(value) is not kind and not (kind is float and type(value) is int):
        raise ValueError(f"{where} must be {_TYPES[kind]}, got {value!r}")
    return value


def _read_fields(cls: Any, content: Any, where: str) -> Any:
    if not isinstance(content, dict):
        raise ValueError(f"{where or 'a plan'} must be {_TYPES[dict]}, got {content!r}")
    known = {item.name: item for item in fields(cls)}
    for key in content:
        if key not in known:
            raise unknown_name("key", str(key), known, where)
    for name, item in known.items():
        if name not in content and item.default is MISSING and item.default_factory is MISSING:
            raise ValueError(f"{where or 'it'} lacks the key {name!r}")
    prefix = f"{where}." if where else ""
    return cls(**{key: _read(known[key].type, value, f"{prefix}{key}") for key, value in content.items()})


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
