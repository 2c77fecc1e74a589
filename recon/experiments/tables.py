"""The comparison as a table: Markdown for people, CSV for programs."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

VARIANT_NAMES = {
    "single": "one network per task",
    "plain": "",
    "recon": "+ Recon",
    "random": "+ random layers",
    "first": "+ first layers",
    "last": "+ last layers",
}

DELTAS = ("delta_m", "delta_m_per_metric")
"""Keys of a row: ours, and CAGrad's; see :mod:`recon.experiments.summary`."""

Row = Mapping[str, Any]


def row_name(row: Row) -> str:
    """How a row is called in tables and figures, e.g. ``cagrad + Recon``."""
    if row["variant"] == "single":
        return "single-task"
    return f"{row['method']} {VARIANT_NAMES[row['variant']]}".strip()


def markdown_table(summary: Sequence[Row]) -> str:
    """The summary as a Markdown table: metrics, delta-m, parameters and their growth, FLOPs, conflict rate, time.

    Where a task has several metrics, delta-m has two columns: ours, over each task's metrics first (higher is better),
    and CAGrad's, over all metrics at once (lower is better).
    """
    metrics = _metric_columns(summary)
    deltas = _delta_columns(metrics)
    header = [
        "",
        *(f"{task} {name}" for task, name in metrics),
        *deltas.values(),
        "parameters",
        "growth",
        "FLOPs",
        "conflict",
        "time",
        "seeds",
    ]
    rows = [[row_name(row), *_cells(row, metrics, deltas)] for row in summary]
    widths = [max(len(line[i]) for line in [header, *rows]) for i in range(len(header))]
    lines = [_line(header, widths), "| " + " | ".join("-" * width for width in widths) + " |"]
    return "\n".join(lines + [_line(row, widths) for row in rows]) + "\n"


def csv_table(summary: Sequence[Row]) -> str:
    """The summary as CSV, unrounded, means and standard deviations in columns of their own."""
    metrics = _metric_columns(summary)
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    spreads = [f"{task}/{name}" for task, name in metrics] + [*DELTAS, "conflict_rate"]
    numbers = ["parameters", "parameters_growth", "flops", "seconds", "time_ratio"]
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


def _metric_columns(summary: Sequence[Row]) -> list[tuple[str, str]]:
    return list(
        dict.fromkeys((task, name) for row in summary for task, values in row["metrics"].items() for name in values)
    )


def _delta_columns(metrics: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Key of a row -> its column's title."""
    if len({task for task, _ in metrics}) == len(metrics):  # the two differ in sign only
        return {"delta_m": "delta-m %"}
    return {
        "delta_m": "delta-m % (by task, higher is better)",
        "delta_m_per_metric": "Δm % (CAGrad's, lower is better)",
    }


def _cells(row: Row, metrics: Sequence[tuple[str, str]], deltas: Iterable[str]) -> list[str]:
    growth, ratio = row["parameters_growth"], row["time_ratio"]
    return [
        *(_spread(row["metrics"].get(task, {}).get(name), "{:.4f}") for task, name in metrics),
        *(_spread(row[delta], "{:+.2f}") for delta in deltas),
        f"{row['parameters']:,.0f}",
        "" if growth is None else f"{growth:+.1%}",
        f"{row['flops']:.3g}",
        _conflict(row),
        f"{row['seconds']:.0f} s" + ("" if ratio is None else f" (x{ratio:.2f})"),
        str(len(row["seeds"])),
    ]


def _conflict(row: Row) -> str:
    """The conflict rate; where layers are branched, after that of plain training over the layers that stay shared."""
    rate = _spread(row["conflict_rate"], "{:.3f}")
    before = row["conflict_rate_plain"]
    return rate if before is None else f"{before:.3f} -> {rate}"


def _spread(value: Mapping[str, float | None] | None, style: str) -> str:
    if value is None:
        return ""
    text = style.format(value["mean"])
    return text if value["std"] is None else f"{text} ± {style.replace('+', '').format(value['std'])}"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = (
        cell.ljust(width) if i == 0 else cell.rjust(width)
        for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )
    return "| " + " | ".join([first, *others]) + " |"
