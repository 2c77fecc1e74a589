"""What a benchmark will do and cost; prints as a table."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from tabulate import tabulate

from recon.errors import number_of
from recon.experiments.dry_run.trial import MEASURED, Trial
from recon.progress import clock

State = Literal["finished", "resumed", "new", "copied"]
"""Copied runs have the result of one that is the same, which is resumed or new."""


@dataclass(frozen=True)
class Row:
    """The runs of an entry and variant, which differ in their seeds.

    Attributes:
        label: Name of the entry, or of the single task.
        variant: The variant.
        seeds: Seed -> whether its run is finished, resumed, new or copied.
        layers: Number of layers that are branched; ``None`` if nobody knows.
        parameters: Parameters of network and heads.
        flops: Operations of a forward of one sample.
        is_guess: Whether layers and costs are those of a map of a few steps, which the finished map
            replaces.
        trial: The measured steps; ``None`` if all runs are finished.
        problem: Why the map of a few steps selects no layers; the costs are those of the run that
            finds the map.
    """

    label: str
    variant: str
    seeds: Mapping[int, State]
    layers: int | None
    parameters: int
    flops: int
    is_guess: bool = False
    trial: Trial | None = None
    problem: str | None = None

    def cells(self) -> list[str]:
        """The row of the table."""
        about = "~" if self.is_guess else ""
        layers = "?" if self.layers is None else f"{about}{self.layers}"
        costs = ["", "", ""]
        if self.trial is not None:
            memory = "" if self.trial.memory is None else _size(self.trial.memory)
            costs = [f"{self.trial.batch * 1e3:.3g} ms", clock(self.trial.seconds), memory]
        states = [
            f"{state}: {' '.join(str(seed) for seed, one in self.seeds.items() if one == state)}"
            for state in get_args(State)
            if state in self.seeds.values()
        ]
        return [
            f"{self.label} {self.variant}",
            layers,
            f"{about}{self.parameters:,}",
            f"{about}{self.flops:.3g}",
            *costs,
            ", ".join(states),
        ]


@dataclass(frozen=True)
class Forecast:
    """The runs of a benchmark, and their time, memory and disk.

    Attributes:
        rows: Entries and variants in the order of the plan.
        lines: What the benchmark would say about runs that it finds or puts aside.
        jobs: Runs at a time.
        seconds: Time of the whole benchmark.
        devices: Devices of each run.
    """

    rows: tuple[Row, ...]
    lines: tuple[str, ...]
    jobs: int
    seconds: float
    devices: int = 1

    @property
    def memory(self) -> int | None:
        """The most memory, in bytes, of so many runs at a time; ``None`` if it is not known."""
        known = [row.trial.memory for row in self.rows if row.trial is not None and row.trial.memory is not None]
        return max(known) * self.jobs if known else None

    @property
    def disk(self) -> int:
        """The bytes of all new checkpoints, and of one more for each run that writes its own."""
        sizes = [row.trial.checkpoint for row in self.rows if row.trial is not None for _ in _left(row)]
        return sum(sizes) + max(sizes, default=0) * self.jobs

    def number(self, state: State) -> int:
        """How many runs are finished, resumed, new or copied."""
        return sum(list(row.seeds.values()).count(state) for row in self.rows)

    def __str__(self) -> str:
        titles = ["run", "layers", "parameters", "FLOPs", "batch", "a run", "memory", "seeds"]
        alignment = ("left", *["right"] * 6, "left")
        cells = [titles, *(row.cells() for row in self.rows)]
        table = tabulate(cells, tablefmt="plain", colalign=alignment, disable_numparse=True)
        shown = [state for state in get_args(State) if state != "copied" or self.number(state)]
        states = ", ".join(f"{self.number(state)} {state}" for state in shown)
        total = sum(len(row.seeds) for row in self.rows)
        return "\n".join([*self.lines, table, "", f"runs    {total}: {states}", *self._costs(), *self._remarks()])

    def _costs(self) -> list[str]:
        if not self.number("new") + self.number("resumed"):
            return []
        work = sum(row.trial.seconds for row in self.rows if row.trial is not None for _ in _left(row))
        memory = "" if self.memory is None else f"memory  about {_size(self.memory)} for {self.jobs} at a time"
        runs = number_of(self.jobs, "run")
        lines = [
            f"time    about {clock(self.seconds)}, {runs} at a time; {clock(work)} one after another",
            memory,
            f"disk    about {_size(self.disk)} of checkpoints",
        ]
        return [line for line in lines if line]

    def _remarks(self) -> list[str]:
        remarks = [f"{row.label} {row.variant}, as if plain: {row.problem}" for row in self.rows if row.problem]
        if any(row.trial is not None for row in self.rows):
            remarks.append(f"Measured on {MEASURED} batches of each row, in as many processes; nothing was written.")
        if any(row.is_guess for row in self.rows):
            remarks.append("~ by a conflict map of these batches, or without the choice of a grid: it may differ.")
        if self.number("copied"):
            remarks.append("Copied runs are the same as others, whose results they take over.")
        if self.number("resumed"):
            remarks.append("Resumed runs are counted from their beginning.")
        if self.devices > 1:
            remarks.append(f"Measured on one device of {self.devices}; the time of their exchange is not counted.")
        return remarks


def _left(row: Row) -> list[int]:
    """The seeds of runs that are to be trained."""
    return [seed for seed, state in row.seeds.items() if state in ("resumed", "new")]


def _size(number: float) -> str:
    """A number of bytes in a unit of its size.

    >>> _size(1_230_000), _size(45_600_000_000)
    ('1.23 MB', '45.6 GB')
    """
    for unit in ("B", "kB", "MB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} GB"
