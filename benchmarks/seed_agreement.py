"""Do two seeds find the same conflict layers? By network, severity and length of the search.

Beside it stands what one search expects of another by its own bootstrap, which knows nothing of
seeds.

    python benchmarks/seed_agreement.py --data DATA --out DIR

It shares its records with `search_cost.py` and `ranking_stability.py` in the same folder, and
writes `seeds.json`, each pair of seeds.
"""

import json
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from statistics import fmean

import torch
from jsonargparse import auto_cli
from scipy.stats import spearmanr
from tabulate import tabulate

sys.path.append(str(Path(__file__).parent))
from recorded_searches import CASES, Record, Search, quiet, record

from recon import ConflictAnalyzer
from recon.conflict.certainty import selection_probabilities
from recon.conflict.ranking import top_layers
from recon.files.atomic import write_atomically

SEARCHES = {"resnet18": ("8", 468), "segnet": ("8", 480), "lcnet": ("100", 160)}
"""Network -> width and steps of its searches."""
SEVERITIES = (0.0, -0.1, -0.2)


@dataclass(frozen=True)
class Seeds:
    """The searches of two seeds, up to some step.

    Attributes:
        network: Its name in ``CASES``.
        severity: Severity of the scores.
        steps: Steps of each search.
        layers: Number of layers.
        spearman: Rank correlation of the scores.
        common: Common layers of the selections.
        expected: Layers that each search expects to select again, the mean of both.
    """

    network: str
    severity: float
    steps: int
    layers: int
    spearman: float
    common: int
    expected: float


def main(
    data: Path,
    out: Path,
    networks: tuple[str, ...] = tuple(SEARCHES),
    seeds: int = 5,
    steps: int | None = None,
    threads: int = 1,
) -> None:
    """Record the searches, and print how far their seeds agree.

    Args:
        data: Folder of the data sets.
        out: Folder of the recorded searches and of the pairs.
        networks: The networks, by their names in ``CASES``.
        seeds: Seeds from 0.
        steps: Training steps of every search; by default those of ``SEARCHES``.
        threads: Threads of torch.
    """
    quiet(threads)
    found = []
    for network in networks:
        width, number = SEARCHES[network]
        searches = [
            Search(network, width, CASES[network].batch, "joint", seed, steps or number) for seed in range(seeds)
        ]
        found += pairs(network, [record(search, data, out / "records") for search in searches])
    print(table(found))
    write_atomically(out / "seeds.json", json.dumps([asdict(pair) for pair in found], indent=1))


def pairs(network: str, records: list[Record]) -> Iterator[Seeds]:
    """Each pair of seeds, at each severity, after half of the steps and after all."""
    layers, number = records[0].layers, len(records[0].cosines)
    for severity in SEVERITIES:
        for steps in (number // 2, number):
            scores = [one.scores(severity, slice(steps)).tolist() for one in records]
            tops = [set(top_layers(dict(zip(layers, own, strict=True)), CASES[network].top)) for own in scores]
            again = [expected_again(network, one, severity, steps) for one in records]
            for first, second in combinations(range(len(records)), 2):
                correlation = float(spearmanr(scores[first], scores[second]).statistic)
                common, expected = len(tops[first] & tops[second]), (again[first] + again[second]) / 2
                yield Seeds(network, severity, steps, len(layers), correlation, common, expected)


def expected_again(network: str, found: Record, severity: float, steps: int) -> float:
    """How many of its top layers a search would select again, if its steps were drawn anew."""
    case = CASES[network]
    analyzer = ConflictAnalyzer(case.backbone(case.widths[0]), [f"task_{number}" for number in range(found.tasks)])
    first, second = torch.triu_indices(found.tasks, found.tasks, offset=1)
    gramians = torch.eye(found.tasks).repeat(steps, len(found.layers), 1, 1)
    cosines = torch.from_numpy(found.cosines[:steps]).nan_to_num()
    gramians[..., first, second] = gramians[..., second, first] = cosines
    for step in gramians:
        analyzer.observe(step)
    conflict_map = analyzer.conflict_map()
    probabilities = selection_probabilities(conflict_map, case.top, severity)
    return sum(probabilities[layer] for layer in conflict_map.top(case.top, severity))


def table(found: list[Seeds]) -> str:
    """The agreement of two seeds, mean and range over the pairs."""
    rows = defaultdict(list)
    for pair in found:
        rows[pair.network, pair.severity, pair.steps].append(pair)
    titles = ["network", "S", "steps", "common", "range", "expected", "by chance", "Spearman", "pairs"]
    return tabulate(
        [
            [
                network,
                f"{severity:g}",
                str(steps),
                f"{fmean(pair.common for pair in own):.1f} of {CASES[network].top}",
                f"{min(pair.common for pair in own)} to {max(pair.common for pair in own)}",
                f"{fmean(pair.expected for pair in own):.1f}",
                f"{CASES[network].top ** 2 / own[0].layers:.1f}",
                f"{fmean(pair.spearman for pair in own):.2f}",
                str(len(own)),
            ]
            for (network, severity, steps), own in rows.items()
        ],
        titles,
        tablefmt="github",
        disable_numparse=True,
    )


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
