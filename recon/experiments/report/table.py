"""The comparison as a table: Markdown for people, CSV for programs."""

import csv
import io
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tabulate import tabulate

from recon.plot.rows import row_name

DELTAS = ("delta_m", "delta_m_per_metric")
"""Keys of a row: ours, and CAGrad's; see :mod:`recon.experiments.report.delta_m`."""

MOST_METRICS = 12
"""Metrics that a page shows one by one; of more it shows the means over tasks."""

_MATCHED = {
    "random_parameters": "parameters",
    "wide_parameters": "parameters",
    "random_flops": "flops",
    "wide_flops": "flops",
}
"""Controls at equal price, and the price."""

_NEAR = 0.02

Row = Mapping[str, Any]
Column = tuple[str, Callable[[Row], str]]
"""A title, and a row's cell."""


def markdown_table(summary: Sequence[Row]) -> str:
    """The summary as a Markdown table.

    Its columns are metrics, delta-m, parameters, FLOPs and their growth, and the conflict rate.
    Delta-m has two columns where tasks differ in their numbers of metrics: ours, over each task's
    metrics first (higher is better), and CAGrad's, over all metrics at once (lower is better).
    Elsewhere one is the other's negative, and one column is shown.

    More metrics than fit on a page are averaged over tasks; ``table.csv`` and ``results.json`` have
    them all. Times stand in ``results.json`` only: runs share the machine, so they compare nothing.
    """
    header, rows = text_cells(summary)
    alignment = ["left", *("right" for _ in header[1:])]
    return tabulate(rows, header, tablefmt="github", colalign=alignment, disable_numparse=True) + "\n"


def latex_table(summary: Sequence[Row]) -> str:
    """The same table as LaTeX, for the package booktabs."""
    header, rows = text_cells(summary)
    alignment = ["left", *("right" for _ in header[1:])]
    text = tabulate(rows, header, tablefmt="latex_booktabs", colalign=alignment, disable_numparse=True)
    for letter, command in {"±": r"$\pm$", "Δ": r"$\Delta$"}.items():
        text = text.replace(letter, command)
    return text + "\n"


def text_cells(summary: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """The titles and the rows of the table; the first column names the rows."""
    metrics = _metric_columns(summary)
    columns: list[Column] = [
        *(_each_metric(metrics) if len(metrics) <= MOST_METRICS else _means_over_tasks(summary)),
        *_deltas(metrics),
        ("parameters", lambda row: f"{row['parameters']:,.0f}"),
        ("growth", lambda row: _growth(row["parameters_growth"])),
        ("FLOPs", lambda row: f"{row['flops']:.3g}"),
        ("FLOPs growth", lambda row: _growth(row["flops_growth"])),
        ("conflict", _conflict),
        ("seeds", lambda row: str(len(row["seeds"]))),
    ]
    return ["", *(title for title, _ in columns)], [
        [row_name(row), *(cell(row) for _, cell in columns)] for row in summary
    ]


def markdown_notes(summary: Sequence[Row], choices: Mapping[str, object] | None = None) -> str:
    """The sentences below the table: what ± means, and how near controls come to their price.

    A control is named where it is more than 2 % from the + Recon row.

    Args:
        summary: The rows.
        choices: Label of an entry -> the setting that its grid chose, as text.
    """
    rows = [row for row in summary if row["variant"] != "single"]
    notes = []
    if any(len(row["seeds"]) > 1 for row in summary):
        notes.append("± is the standard deviation over the seeds of a row; their number is in the column seeds.")
    elif len(rows) > 1:
        notes.append("One seed a row, so neither spread nor interval: `seeds: 5` in the plan gives both.")
    for row in rows:
        measure = _MATCHED.get(row["variant"])
        if measure and row["over_recon"] and abs(off := row["over_recon"][measure]) > _NEAR:
            name = measure if measure == "parameters" else "FLOPs"
            notes.append(f"{row_name(row)}: no nearer to + Recon than {off:+.1%} of + Recon's {name}.")
    notes += [f"{label}: {choice}." for label, choice in (choices or {}).items()]
    return "\n".join(notes) + "\n" if notes else ""


def csv_table(summary: Sequence[Row]) -> str:
    """The summary as CSV, unrounded, means and standard deviations in columns of their own."""
    metrics = _metric_columns(summary)
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    spreads = [f"{task}/{name}" for task, name in metrics] + [*DELTAS, "conflict_rate"]
    numbers = ["parameters", "parameters_growth", "flops", "flops_growth", "seconds"]
    writer.writerow(
        ["method", "variant", "seeds", *(f"{name} {part}" for name in spreads for part in ("mean", "std")), *numbers]
    )
    for row in summary:
        values = [row["metrics"].get(task, {}).get(name) for task, name in metrics] + [
            row[name] for name in (*DELTAS, "conflict_rate")
        ]
        parts = [value[part] if value else None for value in values for part in ("mean", "std")]
        writer.writerow([row["method"], row["variant"], len(row["seeds"]), *parts, *(row[name] for name in numbers)])
    return stream.getvalue()


def delta_m_cell(row: Row) -> str:
    """Delta-m of a row as the table has it.

    >>> delta_m_cell({"delta_m": {"mean": 1.234, "std": 0.5}})
    '+1.23 ± 0.50'
    """
    return _spread(row["delta_m"], "{:+.2f}")


def _metric_columns(summary: Sequence[Row]) -> list[tuple[str, str]]:
    return list(
        dict.fromkeys((task, name) for row in summary for task, values in row["metrics"].items() for name in values)
    )


def _each_metric(metrics: Sequence[tuple[str, str]]) -> list[Column]:
    def column(task: str, name: str) -> Column:
        return f"{task} {name}", lambda row: _spread(row["metrics"].get(task, {}).get(name), "{:.4f}")

    return [column(task, name) for task, name in metrics]


def _means_over_tasks(summary: Sequence[Row]) -> list[Column]:
    tasks = {name: value["tasks"] for row in summary for name, value in row["over_tasks"].items()}

    def column(name: str) -> Column:
        return f"{name}, mean of {tasks[name]}", lambda row: _spread(row["over_tasks"].get(name), "{:.4f}")

    return [column(name) for name in list(tasks)[:MOST_METRICS]]


def _deltas(metrics: Sequence[tuple[str, str]]) -> list[Column]:
    by_task: Column = "delta-m % (by task, higher is better)", delta_m_cell
    by_metric: Column = (
        "Δm % (CAGrad's, lower is better)",
        lambda row: _spread(row["delta_m_per_metric"], "{:+.2f}"),
    )
    if len(set(Counter(task for task, _ in metrics).values())) <= 1:  # the two differ in sign only
        return [("delta-m %", by_task[1])]
    return [by_task, by_metric]


def _growth(growth: float | None) -> str:
    return "" if growth is None else f"{growth:+.1%}"


def _conflict(row: Row) -> str:
    """The conflict rate; in branched networks after plain training's in the shared layers."""
    rate = _spread(row["conflict_rate"], "{:.3f}")
    before = row["conflict_rate_plain"]
    return rate if before is None else f"{before:.3f} -> {rate}"


def _spread(value: Mapping[str, float | None] | None, style: str) -> str:
    if value is None:
        return ""
    text = style.format(value["mean"])
    return text if value["std"] is None else f"{text} ± {style.replace('+', '').format(value['std'])}"
