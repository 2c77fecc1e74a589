"""Paired differences between the rows of a benchmark: seed by seed, with their interval.

Runs of one seed see the same batches, and those of one network start from the same weights. So the
difference of two rows is taken seed by seed. It often varies less than the rows do.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, stdev
from typing import Any

import numpy as np
from tabulate import tabulate

from recon.errors import number_of
from recon.plot.rows import CONFIDENCE, VARIANT_NAMES, row_name

_RESAMPLES = 10_000

_CONTROLS = {
    "recon": tuple(name for name in VARIANT_NAMES if name not in ("single", "plain", "recon")),
    "norms": ("norms_random",),
}
"""Variants, and those that they are compared with beside plain training."""

Row = tuple[str, str]
"""Label of an entry, and its variant."""


@dataclass(frozen=True)
class Difference:
    """The difference in delta-m between two rows, over the seeds that both have.

    >>> gain = Difference("joint + Recon", "joint", (0, 1, 2), (2.5, 3.0, 3.5))
    >>> gain.mean, [round(end, 2) for end in gain.interval], gain.wins, gain.verdict
    (3.0, [1.76, 4.24], 3, 'better')
    >>> Difference("joint + Recon", "joint", (0, 1, 2), (-0.5, 1.0, 1.5)).verdict
    'not distinguishable'

    Attributes:
        first: Name of the one row.
        second: Name of the other row.
        seeds: The seeds of both.
        values: For each seed, delta-m of the first less that of the second, in percentage points.
    """

    first: str
    second: str
    seeds: tuple[int, ...]
    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """The mean over seeds."""
        return fmean(self.values)

    @property
    def wins(self) -> int:
        """In how many seeds the first row is better."""
        return sum(value > 0 for value in self.values)

    @property
    def interval(self) -> tuple[float, float] | None:
        """The interval of the mean by the paired t-test; ``None`` for one seed."""
        from scipy.stats import t

        count = len(self.values)
        if count < 2:
            return None
        reach = float(t.ppf((1 + CONFIDENCE) / 2, count - 1)) * stdev(self.values) / count**0.5
        return self.mean - reach, self.mean + reach

    @property
    def bootstrap(self) -> tuple[float, float] | None:
        """The percentile interval of the mean over resampled seeds; ``None`` for one seed."""
        from scipy.stats import bootstrap

        if len(self.values) < 2:
            return None
        found = bootstrap(
            (np.array(self.values),),
            np.mean,
            n_resamples=_RESAMPLES,
            confidence_level=CONFIDENCE,
            method="percentile",
            random_state=0,
        )
        return float(found.confidence_interval.low), float(found.confidence_interval.high)

    @property
    def verdict(self) -> str:
        """What the interval of the t-test says of the first row."""
        if self.interval is None:
            return "one seed: no interval"
        low, high = self.interval
        return "better" if low > 0 else "worse" if high < 0 else "not distinguishable"

    def to_dict(self) -> dict[str, Any]:
        """The difference as JSON."""
        return {
            **asdict(self),
            "mean": self.mean,
            "interval": self.interval,
            "bootstrap": self.bootstrap,
            "verdict": self.verdict,
        }


def differences(runs: Iterable[Mapping[str, Any]], joint: str | None) -> list[Difference]:
    """The differences that a reader of the table asks for.

    Rows with branches against plain training of their entry, + Recon against its controls, and all
    other rows against joint training.

    Args:
        runs: The runs, with their delta-m; those without are left out.
        joint: Label of the joint entry that trains the plan's own network, if there is one.
    """
    rows: dict[Row, dict[int, float]] = {}
    for run in runs:
        if run["delta_m"] is not None:
            rows.setdefault((run["method"], run["variant"]), {})[run["seed"]] = run["delta_m"]
    pairs = [(row, other) for row in rows for other in _others(row, rows, joint)]
    return [_difference(first, second, rows) for first, second in pairs if rows[first].keys() & rows[second].keys()]


def markdown_differences(found: Sequence[Difference]) -> str:
    """The differences as a Markdown table."""
    header, rows = difference_cells(found)
    alignment = ["left", *("right" for _ in header[1:])]
    return tabulate(rows, header, tablefmt="github", colalign=alignment, disable_numparse=True) + "\n"


def difference_cells(found: Sequence[Difference]) -> tuple[list[str], list[list[str]]]:
    """The titles and the rows of the table of differences."""
    header = ["", "delta-m, points", "95 % interval", "bootstrap", "better in", "verdict"]
    rows = [
        [
            f"{one.first} over {one.second}",
            f"{one.mean:+.2f}",
            _ends(one.interval),
            _ends(one.bootstrap),
            f"{one.wins} of {number_of(len(one.seeds), 'seed')}",
            one.verdict,
        ]
        for one in found
    ]
    return header, rows


def _others(row: Row, rows: Mapping[Row, Any], joint: str | None) -> list[Row]:
    """The rows that a row is compared with."""
    label, variant = row
    plain, of_joint = (label, "plain"), (joint or "", "plain")
    others = [plain if variant != "plain" and plain in rows else of_joint]
    others += [(label, control) for control in _CONTROLS.get(variant, ())]
    return [other for other in others if other in rows and other != row]


def _difference(first: Row, second: Row, rows: Mapping[Row, Mapping[int, float]]) -> Difference:
    seeds = tuple(sorted(rows[first].keys() & rows[second].keys()))
    values = tuple(rows[first][seed] - rows[second][seed] for seed in seeds)
    return Difference(_name(first), _name(second), seeds, values)


def _name(row: Row) -> str:
    return row_name({"method": row[0], "variant": row[1]})


def _ends(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f"{interval[0]:+.2f} to {interval[1]:+.2f}"
