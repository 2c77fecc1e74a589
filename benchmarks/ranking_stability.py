"""How stable the ranking of layers is: over seeds, time, widths, batches, severities and methods.

    python benchmarks/ranking_stability.py --data DATA --out DIR

It compares recorded searches of the narrow ResNet-18 on Multi-Fashion+MNIST with each other and
with the published ranking, and shares its records with `search_cost.py` in the same folder. It
writes `stability.json`, each pair of searches, and `ranking_stability.png` and
`ranking_stability.pdf`, a matrix of all of them.
"""

import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from statistics import fmean

import numpy as np
from jsonargparse import auto_cli
from tabulate import tabulate

sys.path.append(str(Path(__file__).parent))
from recorded_searches import CASES, Record, Search, quiet, record

from recon.conflict import ConflictMap, ImportedMap, agree
from recon.experiments.report.figures import save
from recon.experiments.report.map_agreement import map_agreement
from recon.files.atomic import write_atomically

CASE = CASES["resnet18"]
BASE = ("8", 128, "joint")
OTHERS = {
    "width 4": ("4", 128, "joint", 312),
    "width 16": ("16", 128, "joint", 156),
    "batch 32": ("8", 32, "joint", 312),
    "batch 512": ("8", 512, "joint", 78),
    "CAGrad": ("8", 128, "cagrad", 312),
}
SEVERITIES = (0.0, -0.05, -0.2, -0.3)


@dataclass(frozen=True)
class Pair:
    """Two searches that differ in one thing.

    Attributes:
        change: The thing.
        spearman: Rank correlation of all layers.
        common: Common layers of their selections.
    """

    change: str
    spearman: float
    common: int


def main(
    data: Path, out: Path, seeds: int = 5, other_seeds: int = 5, steps: int | None = None, threads: int = 1
) -> None:
    """Record the searches, print the table, and draw the matrix.

    Args:
        data: Folder of the data sets.
        out: Folder of the recorded searches, the pairs and the figure.
        seeds: Seeds from 0.
        other_seeds: Those of other batches and methods.
        steps: Training steps of every search; by default those of the script.
        threads: Threads of torch.
    """
    quiet(threads)

    def records(width: str, batch: int, method: str, number: int) -> list[Record]:
        count = seeds if (batch, method) == BASE[1:] else other_seeds
        searches = [Search("resnet18", width, batch, method, seed, steps or number) for seed in range(count)]
        return [record(search, data, out / "records") for search in searches]

    base = records(*BASE, CASE.steps["8"])
    maps = {"published": ConflictMap.load(str(CASE.published))}
    maps |= {f"seed {seed}": _map([found]) for seed, found in enumerate(base)}
    half = len(base[0].cosines) // 2
    maps |= {"first half": _map(base, slice(half)), "second half": _map(base, slice(half, None))}
    others = {name: records(*setting) for name, setting in OTHERS.items()}
    maps |= {name: _map(found) for name, found in others.items()}
    maps |= {f"S = {severity}": _map(base, severity=severity) for severity in SEVERITIES}
    agreement = agree(maps, severity=None, k=CASE.top)
    found = pairs(base, others)
    print(table(found))
    write_atomically(out / "stability.json", json.dumps([asdict(pair) for pair in found], indent=1))
    for path in save(map_agreement(agreement), out / "ranking_stability"):
        print(path)


def _map(found: list[Record], steps: slice = slice(None), severity: float = CASE.severity) -> ImportedMap:
    """The ranking by the scores of all these searches together."""
    scores = np.sum([one.scores(severity, steps) for one in found], axis=0)
    return ImportedMap(dict(zip(found[0].layers, scores.tolist(), strict=True)), severity, {"source": "a search"})


def pairs(base: list[Record], others: dict[str, list[Record]]) -> list[Pair]:
    """Each change beside the change of the seed alone, search by search."""
    one, half = [_map([found]) for found in base], len(base[0].cosines) // 2
    published = ConflictMap.load(str(CASE.published))
    changes = {
        "another seed": list(combinations(one, 2)),
        "first half of the steps, second half": [
            (_map([found], slice(half)), _map([found], slice(half, None))) for found in base
        ],
        **{name: list(zip(one, [_map([found]) for found in own], strict=False)) for name, own in others.items()},
        **{
            f"S = {severity} instead of {CASE.severity}": list(
                zip(one, [_map([found], severity=severity) for found in base], strict=True)
            )
            for severity in SEVERITIES
        },
        "the published ranking": [(found, published) for found in one],
    }
    return [_pair(change, *maps) for change, both in changes.items() for maps in both]


def _pair(change: str, first: ConflictMap, second: ConflictMap) -> Pair:
    found = agree({"one": first, "other": second}, severity=None, k=CASE.top)
    return Pair(change, float(found.spearman[0, 1]), int(found.overlap[0, 1]))


def table(found: list[Pair]) -> str:
    """The agreement after each change: mean and range over the pairs."""
    rows = defaultdict(list)
    for pair in found:
        rows[pair.change].append(pair)
    titles = ["change", "Spearman", f"common to the top {CASE.top}", "pairs"]
    return tabulate(
        [
            [
                change,
                _mean_and_range([pair.spearman for pair in own], ".3f", ".3f"),
                _mean_and_range([pair.common for pair in own], ".1f", ".0f"),
                str(len(own)),
            ]
            for change, own in rows.items()
        ],
        titles,
        tablefmt="github",
        disable_numparse=True,
    )


def _mean_and_range(values: Sequence[float], mean: str, end: str) -> str:
    return f"{fmean(values):{mean}} ({min(values):{end}} to {max(values):{end}})"


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
