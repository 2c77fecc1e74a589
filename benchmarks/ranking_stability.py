"""How stable the ranking of layers is: over seeds, time, widths, batches, severities and methods.

    python benchmarks/ranking_stability.py --data DATA --out DIR

It compares recorded searches of the narrow ResNet-18 on Multi-Fashion+MNIST with each other and
with the published ranking, and shares its records with `search_cost.py` in the same folder. It
writes `ranking_stability.png` and `ranking_stability.pdf`, a matrix of all of them.
"""

import logging
import sys
import warnings
from itertools import combinations
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from jsonargparse import auto_cli
from tabulate import tabulate

sys.path.append(str(Path(__file__).parent))
from recorded_searches import CASES, Record, Search, record

from recon.conflict import ConflictMap, ImportedMap, MapAgreement, agree
from recon.experiments.report.figures import save
from recon.experiments.report.map_agreement import map_agreement

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


def main(
    data: Path, out: Path, seeds: int = 5, other_seeds: int = 3, steps: int | None = None, threads: int = 1
) -> None:
    """Record the searches, print the table, and draw the matrix.

    Args:
        data: Folder of the data sets.
        out: Folder of the recorded searches and the figure.
        seeds: Seeds from 0.
        other_seeds: Those of other batches and methods.
        steps: Training steps of every search; by default those of the script.
        threads: Threads of torch.
    """
    torch.set_num_threads(threads)
    warnings.filterwarnings("ignore")
    for name in ("pytorch_lightning.utilities.rank_zero", "pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)

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
    print(table(agreement, base, others))
    for path in save(map_agreement(agreement), out / "ranking_stability"):
        print(path)


def _map(found: list[Record], steps: slice = slice(None), severity: float = CASE.severity) -> ImportedMap:
    """The ranking by the scores of all these searches together."""
    scores = np.sum([one.scores(severity, steps) for one in found], axis=0)
    return ImportedMap(dict(zip(found[0].layers, scores.tolist(), strict=True)), severity, {"source": "a search"})


def table(agreement: MapAgreement, base: list[Record], others: dict[str, list[Record]]) -> str:
    """Each change beside the change of the seed alone: search by search, mean and range."""
    one, half = [_map([found]) for found in base], len(base[0].cosines) // 2
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
        "the published ranking": [(found, ConflictMap.load(str(CASE.published))) for found in one],
    }
    rows = []
    for change, pairs in changes.items():
        found = [agree({"one": first, "other": second}, severity=None, k=CASE.top) for first, second in pairs]
        correlations, common = ([float(values[0, 1]) for values in each] for each in _columns(found))
        rows.append(
            [
                change,
                f"{fmean(correlations):.3f} ({min(correlations):.3f} to {max(correlations):.3f})",
                f"{fmean(common):.1f} ({min(common):.0f} to {max(common):.0f})",
                str(len(pairs)),
            ]
        )
    title = f"common to the top {agreement.k} ({agreement.chance:.1f} by chance)"
    return tabulate(rows, ["change", "Spearman", title, "pairs"], tablefmt="github", disable_numparse=True)


def _columns(found: list[MapAgreement]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    return [one.spearman for one in found], [one.overlap for one in found]


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
