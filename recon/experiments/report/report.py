"""The report of a benchmark: ``results.json``, the tables and the figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from recon.conflict import ConflictMap, MeasuredMap
from recon.experiments.choice import Choice, choice_of
from recon.experiments.entry import UNTESTED
from recon.experiments.folder import ResultsFolder
from recon.experiments.origin import mixed_origins
from recon.experiments.plan import Plan
from recon.experiments.report import figures
from recon.experiments.report.delta_m import with_delta_m
from recon.experiments.report.differences import differences, markdown_differences
from recon.experiments.report.prices import delta_m_against_prices, priced
from recon.experiments.report.summary import summarise
from recon.experiments.report.table import csv_table, markdown_notes, markdown_table
from recon.experiments.report.task_pairs import task_pairs
from recon.experiments.report.verdict import verdict
from recon.files.atomic import write_atomically, write_json
from recon.tasks.task import Task

Result = Mapping[str, Any]
"""A run, as ``results.json`` has it."""


@dataclass(frozen=True)
class Report:
    """The tables of a benchmark as text, and the paths of all written files.

    >>> report = Report("| | accuracy |", (Path("results/table.md"), Path("results/delta_m.png")))
    >>> [path.name for path in report.paths if path.suffix == ".png"]
    ['delta_m.png']
    """

    table: str
    paths: tuple[Path, ...]

    def _repr_html_(self) -> str:
        files = "".join(f"<li><code>{escape(str(path))}</code></li>" for path in self.paths)
        return f"<div><pre>{escape(self.table)}</pre><ul>{files}</ul></div>"


def write_results(plan: Plan, runs: Sequence[Result], tasks: Sequence[Task], folder: ResultsFolder) -> Report:
    """Write the results and tables of a plan's finished runs (:func:`write_tables`)."""
    choices = _choices(plan, runs, tasks, folder)
    grids = {"grids": {label: choice.to_dict() for label, choice in choices.items()}} if choices else {}
    searches = _searches(runs, folder)
    record = {"plan": plan.to_dict(), **grids, **({"searches": searches} if searches else {})}
    return write_tables(record, runs, tasks, joint_label(plan), folder.path, choices)


def write_tables(
    record: Mapping[str, Any],
    runs: Sequence[Result],
    tasks: Sequence[Task],
    joint: str | None,
    out: Path,
    choices: Mapping[str, Choice] | None = None,
) -> Report:
    """Write ``results.json``, the tables and the differences of finished runs, each atomically.

    ``differences.md`` is written where two rows have two seeds in common. A sentence below the
    table tells of runs from different versions or devices. The table of the report ends with the
    verdict.

    Args:
        record: What ``results.json`` has beside the runs: the plan.
        runs: The runs.
        tasks: Their tasks.
        joint: Label of the joint entry that others are compared with, if there is one.
        out: The folder.
        choices: Label of an entry -> the choice among its grid.
    """
    completed = with_delta_m(_compared(runs), tasks)
    summary = summarise(completed)
    found = differences(completed, joint)
    said = verdict(summary, found)
    of_runs = {"runs": completed, "summary": summary}
    content = {**record, **of_runs, "differences": [one.to_dict() for one in found], "verdict": said}
    write_json(out / "results.json", content)
    mixed = mixed_origins(runs)
    below = (markdown_notes(summary, choices), f"{mixed}\n" if mixed else "")
    table = "\n".join(filter(None, (markdown_table(summary), *below)))
    texts = {"table.md": table, "table.csv": csv_table(summary)}
    paired = markdown_differences(found) if any(one.interval for one in found) else ""
    if paired:
        texts["differences.md"] = paired
    for name, text in texts.items():
        write_atomically(out / name, text)
    return Report(
        "\n".join(filter(None, (table, paired, said))), tuple(out / name for name in ("results.json", *texts))
    )


def draw_figures(plan: Plan, runs: Sequence[Result], tasks: Sequence[Task], folder: ResultsFolder) -> list[Path]:
    """Draw conflict per layer, cosines, delta-m and its price, where runs allow it."""
    paths = []
    out = folder.path
    plain, recon = (joint_maps(plan, runs, folder, variant) for variant in ("plain", "recon"))
    both = [seed for seed in plain if seed in recon]
    if plain:
        branched = [[layer for layer in plain[seed].layers if layer not in recon[seed].layers] for seed in both]
        by_layer = figures.conflict_by_layer(list(plain.values()), branched, plan.severity)
        paths += figures.save(by_layer, out / "conflict_by_layer")
        if len(tasks) > 2:
            paths += figures.save(task_pairs(list(plain.values())), out / "task_pairs")
    if both:
        histograms = figures.cosine_histograms([plain[seed] for seed in both], [recon[seed] for seed in both])
        paths += figures.save(histograms, out / "cosine_histograms")
    summary = summarise(with_delta_m(_compared(runs), tasks))
    if any(row["delta_m"] is not None for row in summary):
        paths += figures.save(figures.delta_m_dots(summary), out / "delta_m")
    if rows := priced(summary):
        paths += figures.save(delta_m_against_prices(rows), out / "prices")
    return paths


def _compared(runs: Sequence[Result]) -> list[Result]:
    """The runs without those of grids and searches, which have no metrics of the test data."""
    return [run for run in runs if run["variant"] not in UNTESTED]


def _choices(plan: Plan, runs: Sequence[Result], tasks: Sequence[Task], folder: ResultsFolder) -> dict[str, Choice]:
    """Label of an entry -> the choice among its grid, for grids whose runs are all finished."""
    finished = {run["id"] for run in runs}
    waiting = {run.label for run in plan.runs([]) if run.variant == "grid" and run.id not in finished}
    entries = [entry for entry in plan.methods if entry.settings and entry.label not in waiting]
    return {entry.label: choice_of(entry, folder, tasks) for entry in entries}


def _searches(runs: Sequence[Result], folder: ResultsFolder) -> dict[str, dict[str, Any]]:
    """Search -> its seconds, and how it ended and on which network, as its map says."""
    found = {}
    for run in runs:
        if run["variant"] == "search":
            provenance = ConflictMap.load(folder.conflict_map(run["id"])).provenance
            told: dict[str, Any] = {key: provenance[key] for key in ("stop", "proxy", "selection") if key in provenance}
            found[run["id"]] = {"seconds": run["seconds"], **told}
    return found


def joint_maps(plan: Plan, runs: Sequence[Result], folder: ResultsFolder, variant: str) -> dict[int, MeasuredMap]:
    """Seed -> conflict map of the first joint entry with the plan's own network."""
    joint = joint_label(plan)
    maps = {}
    for run in runs:
        path = folder.conflict_map(run["id"])
        if (run["method"], run["variant"]) == (joint, variant) and path.exists():
            conflict_map = ConflictMap.load(path)
            assert isinstance(conflict_map, MeasuredMap)
            maps[run["seed"]] = conflict_map
    return maps


def joint_label(plan: Plan) -> str | None:
    """Label of the first joint entry that trains the plan's own network."""
    return next((entry.label for entry in plan.methods if entry.is_joint and not entry.has_own_network), None)
