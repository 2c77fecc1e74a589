"""What a search for conflict layers costs, and what a cheaper one loses.

    python benchmarks/search_cost.py --data DATA --out DIR
    python benchmarks/search_cost.py --data DATA --out DIR --networks '[resnet18]' --seeds 2

Searches of three networks at several widths and seeds are recorded, step by step. Their selections
after ever more steps, with each 4th step observed, and where `stop.stable` ends them, are compared
with the published ranking, or with a long search of the widest network with the other seeds; with
one seed it is that seed's own, and says nothing of the widest network. The share of arithmetic is
that of a whole search, which the table names. The arithmetic is that of the backbone: a backward
counts as two forwards, and an observed step has one a task.

DATA holds `MNIST/raw` and `FashionMNIST/raw`. Interrupted, it goes on with the searches that are
not finished. It writes `search_cost.png`, `search_cost.pdf` and `points.json` to DIR.
"""

import json
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, stdev

import numpy as np
from jsonargparse import auto_cli
from matplotlib.figure import Figure
from tabulate import tabulate

sys.path.append(str(Path(__file__).parent))
from recorded_searches import CASES, Case, Record, Search, flops_at, quiet, record

from recon.conflict import ConflictMap
from recon.conflict.ranking import top_layers
from recon.experiments.report.figures import save
from recon.files.atomic import write_atomically
from recon.gradients.layers import shared_layers
from recon.training.searching.stopping import Selections, Stable

EVERY = 4
WINDOW = 120
FEWEST = 15
"""Steps of the shortest search."""


@dataclass(frozen=True)
class Point:
    """A search that ended after some steps.

    Attributes:
        network: Its name in ``CASES``.
        width: Its width.
        kind: How it was searched.
        seed: Its seed.
        steps: Training steps.
        share: Its arithmetic, as a share of that of a whole search.
        overlap: Common layers of its selection and of the reference.
        seconds: Processor time.
    """

    network: str
    width: str
    kind: str
    seed: int
    steps: int
    share: float
    overlap: int
    seconds: float


def main(
    data: Path,
    out: Path,
    networks: tuple[str, ...] = tuple(CASES),
    seeds: int = 5,
    steps: int | None = None,
    threads: int = 1,
) -> None:
    """Record the searches, print the table, and draw the figure.

    Args:
        data: Folder of the data sets.
        out: Folder of the recorded searches, the points and the figure.
        networks: The networks, by their names in ``CASES``.
        seeds: Seeds from 0.
        steps: Training steps of every search; by default those of ``CASES``.
        threads: Threads of torch.
    """
    quiet(threads)
    points = [point for network in networks for point in _points(network, data, out, seeds, steps)]
    print(table(points))
    write_atomically(out / "points.json", json.dumps([asdict(point) for point in points], indent=1))
    for path in save(figure(points), out / "search_cost"):
        print(path)


def _points(network: str, data: Path, out: Path, seeds: int, steps: int | None) -> list[Point]:
    case = CASES[network]
    searches = [
        Search(network, width, case.batch, "joint", seed, steps or case.steps[width])
        for width in case.widths
        for seed in range(seeds)
    ]
    records = {}
    for search in searches:
        records[search] = record(search, data, out / "records")
        print(f"{search.name}: {records[search].seconds:.0f} s", flush=True)
    tasks = next(iter(records.values())).tasks
    width, samples = case.whole
    whole = flops_at(network, width, data) * samples * (1 + 2 * tasks)
    references = _references(case, records, seeds)
    return [
        Point(network, search.width, kind, search.seed, number, operations / whole, len(top & reference), seconds)
        for search, found in records.items()
        for reference in [references[search.seed]]
        for kind, number, operations, seconds, top in selections(search, found)
    ]


def _references(case: Case, records: dict[Search, Record], seeds: int) -> list[set[str]]:
    """For each seed, the layers that its searches should find."""
    if case.published is not None:
        return [set(ConflictMap.load(case.published).top(case.top, case.severity))] * seeds
    wide = {search.seed: found for search, found in records.items() if search.width == case.widths[-1]}
    references = []
    for seed, found in wide.items():
        others = [one.scores(case.severity) for other, one in wide.items() if other != seed or seeds == 1]
        references.append(_top(case, found.layers, np.sum(others, axis=0)))
    return references


def _top(case: Case, layers: tuple[str, ...], scores: np.ndarray) -> set[str]:
    return set(top_layers(dict(zip(layers, scores.tolist(), strict=True)), case.top))


def selections(search: Search, found: Record) -> Iterator[tuple[str, int, float, float, set[str]]]:
    """Kind, steps, operations, seconds and selected layers of searches inside a recorded one."""
    case, number = search.case, len(found.cosines)

    def of(kind: str, steps: int, observed: slice, every: int = 1) -> tuple[str, int, float, float, set[str]]:
        operations = found.operations(search.batch, steps, every)
        scores = found.scores(case.severity, observed)
        return kind, steps, operations, found.seconds * steps / number, _top(case, found.layers, scores)

    steps = number
    while steps >= FEWEST:
        yield of("steps", steps, slice(steps))
        steps //= 2
    yield of(f"every {EVERY}th step", number, slice(None, None, EVERY), EVERY)
    yield of("last three quarters", number, slice(number // 4, None))
    if (stopped := stopping_step(case, found)) is not None:
        yield of("stop.stable", stopped, slice(stopped))


def stopping_step(case: Case, found: Record) -> int | None:
    """The step at which the rule ends the search; ``None`` if it goes to its end."""
    rule = Stable(window=WINDOW, top=case.top, severity=case.severity)
    past = Selections(rule)
    for step in range(rule.interval, len(found.cosines) + 1, rule.interval):
        scores = found.scores(case.severity, slice(step)).tolist()
        if past.add(step, dict(zip(found.layers, scores, strict=True))):
            return step
    return None


def rows_of(points: list[Point]) -> dict[tuple[str, str, str, int], list[Point]]:
    """The points of all seeds by network, width, kind and steps; early stops together."""
    rows = defaultdict(list)
    for point in points:
        rows[point.network, point.width, point.kind, 0 if point.kind == "stop.stable" else point.steps].append(point)
    return dict(rows)


def table(points: list[Point]) -> str:
    """The overlap of each kind of search, mean and spread over the seeds."""
    titles = ["network", "width", "search", "steps", "of a whole search, %", "common", "range", "seconds", "seeds"]
    rows = []
    for (network, width, kind, _), own in rows_of(points).items():
        common = [point.overlap for point in own]
        spread = f" ± {stdev(common):.1f}" if len(own) > 1 else ""
        rows.append(
            [
                network,
                width,
                kind,
                f"{fmean(point.steps for point in own):.0f}",
                f"{100 * fmean(point.share for point in own):.4f}",
                f"{fmean(common):.1f}{spread} of {CASES[network].top}",
                f"{min(common)} to {max(common)}",
                f"{fmean(point.seconds for point in own):.0f}",
                str(len(own)),
            ]
        )
    return tabulate(rows, titles, tablefmt="github", disable_numparse=True)


def figure(points: list[Point]) -> Figure:
    """Overlap against the share of arithmetic, a panel a network, with the spread over seeds."""
    networks = list(dict.fromkeys(point.network for point in points))
    drawn = Figure(figsize=(4.6 * len(networks), 4), layout="constrained")
    for axes, network in zip(drawn.subplots(1, len(networks), squeeze=False)[0], networks, strict=True):
        case = CASES[network]
        layers = len(shared_layers(case.backbone(case.widths[0])))
        for number, width in enumerate(case.widths):
            for kind, marker in (("steps", "o-"), (f"every {EVERY}th step", "s"), ("stop.stable", "*")):
                own = [
                    row
                    for (of, its, how, _), row in rows_of(points).items()
                    if (of, its, how) == (network, width, kind)
                ]
                if not own:
                    continue
                own.sort(key=lambda row: row[0].share)
                label = f"width {width}" if kind == "steps" else kind if number == 0 else None
                axes.errorbar(
                    [100 * fmean(point.share for point in row) for row in own],
                    [fmean(point.overlap for point in row) for row in own],
                    yerr=[stdev([point.overlap for point in row]) if len(row) > 1 else 0 for row in own],
                    fmt=marker,
                    color=f"C{number}",
                    markersize=11 if marker == "*" else 5,
                    capsize=2,
                    label=label,
                )
        axes.axhline(case.top**2 / layers, color="0.5", linestyle=":", label="by chance")
        axes.axvline(0.1, color="0.7", linewidth=0.8)
        axes.set_xscale("log")
        axes.set_xlabel("arithmetic, % of a whole search")
        axes.set_ylabel(f"common to the top {case.top}")
        axes.set_title(case.title, fontsize=10)
        axes.legend(fontsize=7)
    return drawn


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
