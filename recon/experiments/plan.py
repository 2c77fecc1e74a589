"""A benchmark plan: methods x variants x seeds, and the runs it comes to."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from recon.methods import list_methods
from recon.names import unknown_name

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
        name: Stands for the method in ids and tables, when a plan has it twice with different options.
    """

    method: str
    options: dict[str, Any] = field(default_factory=dict)
    variants: tuple[str, ...] = ("plain", "recon")
    seeds: tuple[int, ...] = (0,)
    name: str = ""

    @property
    def label(self) -> str:
        return self.name or self.method


@dataclass(frozen=True)
class Run:
    """One training run of a plan.

    Attributes:
        id: Unique in the plan; names the run's folder.
        method: Label of the method.
        variant: Which layers are branched, or ``single`` for one task alone.
        seed: Seeds weights, data order and the method's randomness.
        entry: The plan's entry it comes from; joint training for single tasks.
        task: The only task, for single-task runs.
        needs: Id of the run whose conflict map this one takes its layers from.
    """

    id: str
    method: str
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
        every: Observe conflicts in each n-th step.
        map: File of a conflict map for all +Recon runs; by default each seed's plain joint run finds its own.
        single: Whether to train the single-task networks that delta-m compares with.
        imports: Modules to import first, for methods of your own.
    """

    name: str
    fit: dict[str, Any]
    methods: tuple[Entry, ...]
    top: int = 25
    severity: float = -0.1
    init: str = "copy"
    every: int = 1
    map: str | None = None
    single: bool = True
    imports: tuple[str, ...] = ()

    @classmethod
    def load(cls, path: str | Path) -> "Plan":
        """Read and check a plan.

        Raises:
            ValueError: The file is not a plan, or a key, method or variant does not exist (the nearest is named).
        """
        try:
            content = yaml.safe_load(Path(path).read_text())
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise ValueError(f"cannot read the plan {path}: {error}") from error
        try:
            return cls.from_dict(content)
        except (TypeError, ValueError) as error:
            raise ValueError(f"plan {path}: {error}") from error

    @classmethod
    def from_dict(cls, content: Any) -> "Plan":
        """Build a plan from what its YAML says; the errors are those of :meth:`load`."""
        _check_keys(cls, content, "the plan")
        entries = []
        for item in content["methods"]:
            _check_keys(Entry, item, "methods")
            entries.append(Entry(**{key: tuple(value) if isinstance(value, list) else value for key, value in item.items()}))
        imports = tuple(content.get("imports", ()))
        return cls(**{**content, "methods": tuple(entries), "imports": imports})

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return _plain(asdict(self))

    def check(self) -> None:
        """Check names and dependencies; call it once the plan's ``imports`` are imported.

        Raises:
            ValueError: An unknown method or variant, runs with the same id, or +Recon without a map to take layers from.
        """
        known = list_methods()
        for entry in self.methods:
            if _normal(entry.method) not in {_normal(name) for name in known}:
                raise unknown_name("method", entry.method, known)
            for variant in entry.variants:
                if variant not in VARIANTS[1:]:
                    raise unknown_name("variant", variant, VARIANTS[1:], where=f"method {entry.label}")
        runs = self.runs(tasks=())
        ids = [run.id for run in runs]
        for run in runs:
            if ids.count(run.id) > 1:
                raise ValueError(f"two runs are called {run.id!r}; give one of the entries a name of its own")
            if run.needs is not None and run.needs not in ids:
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
            runs = [Run(f"single-{task}-seed{seed}", "single", "single", seed, joint, task) for seed in seeds for task in tasks]
        return runs + [
            self._run(entry, variant, seed) for entry in self.methods for variant in entry.variants for seed in entry.seeds
        ]

    def _run(self, entry: Entry, variant: Any, seed: int) -> Run:
        needs = None
        if variant == "recon" and self.map is None:
            needs = f"joint-plain-seed{seed}"
        return Run(f"{entry.label}-{variant}-seed{seed}", entry.label, variant, seed, entry, needs=needs)


def _check_keys(cls: type, content: Any, where: str) -> None:
    if not isinstance(content, Mapping):
        raise ValueError(f"{where} must be a mapping of keys, got {type(content).__name__}")
    known = [item.name for item in fields(cls)]
    for key in content:
        if key not in known:
            raise unknown_name("key", str(key), known, where=where)


def _normal(name: str) -> str:
    return "".join(character for character in name.lower() if character.isalnum())


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
