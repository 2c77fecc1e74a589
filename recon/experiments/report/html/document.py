"""One HTML file that holds the whole report of one benchmark or of several."""

import base64
import hashlib
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from markupsafe import Markup, escape
from tabulate import tabulate

from recon.experiments.origin import mixed_origins
from recon.experiments.report.differences import Difference, difference_cells, differences, markdown_differences
from recon.experiments.report.html import comparison
from recon.experiments.report.html.pictures import Picture, pictures
from recon.experiments.report.html.source import Source, check_comparable
from recon.experiments.report.html.vector import data_address
from recon.experiments.report.report import joint_label
from recon.experiments.report.table import (
    csv_table,
    delta_m_cell,
    latex_table,
    markdown_notes,
    markdown_table,
    text_cells,
)
from recon.experiments.report.verdict import verdict
from recon.files.atomic import write_atomically
from recon.plot.rows import row_name
from recon.version import __version__

_NO_VERDICT = (
    "No verdict: it needs rows with Recon and without of one method, and single-task networks to compare with."
)
_DELTA = ("delta-m", "Δm")
"""Beginnings of the titles of columns that a page shows before the metrics."""

_NUMBER = re.compile(r"[-+]?\d[\d,]*\.?\d*(?:e[-+]?\d+)?")


@dataclass(frozen=True)
class Table:
    """A table of the page, with its forms to copy.

    Attributes:
        header: The titles of the columns.
        rows: The cells; each is its text and the number to sort by.
        forms: Name of a form -> the table in it.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[tuple[str, str]]]
    forms: Mapping[str, str]


@dataclass(frozen=True)
class Part:
    """One folder in the report.

    Attributes:
        source: The folder.
        label: Its name on the page.
        verdict: Sentences, one list an entry.
        notes: Sentences below the table.
        table: The rows.
        differences: The paired differences; ``None`` without any.
        pictures: Pictures, or what is missing for them.
        predictions: Name of a row -> its sheet, as an address.
        origins: Name of a version -> its values.
        plan: The plan as YAML.
    """

    source: Source
    label: str
    verdict: Sequence[Sequence[str]]
    notes: Sequence[str]
    table: Table
    differences: Table | None
    pictures: Sequence[Picture]
    predictions: Mapping[str, str]
    origins: Mapping[str, str]
    plan: str


def write_report(folders: Sequence[Path], out: Path) -> list[str]:
    """Write the report of one folder of results, or of several that are compared.

    Args:
        folders: Folders that ``recon benchmark`` or ``recon table`` wrote; they are only read.
        out: The HTML file.

    Returns:
        Lines about folders that are unfinished.

    Raises:
        ValueError: A folder holds no results, damaged ones, or those of another plan or version; or
            the folders have different tasks.
    """
    sources = [Source.read(folder) for folder in dict.fromkeys(folders)]
    check_comparable(sources)
    parts = [_part(source, label) for source, label in zip(sources, comparison.labels(sources), strict=True)]
    write_atomically(out, _page(parts))
    return [source.unfinished for source in sources if source.unfinished]


def _page(parts: Sequence[Part]) -> str:
    sources = [part.source for part in parts]
    several = len(parts) > 1
    script = _asset("report.js")
    return _template().render(
        title=" and ".join(part.label for part in parts),
        parts=parts,
        several=several,
        settings=comparison.beside(sources),
        beside=_beside_table(parts) if several else None,
        gaps=_differences_table(comparison.same_rows(sources)) if several else None,
        maps=comparison.maps_beside(sources) if several else None,
        style=Markup(_asset("report.css")),
        script=Markup(script),
        script_sum=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        version=__version__,
        command=shlex.join(["recon", "report", *(str(source.path) for source in sources)]),
    )


def _part(source: Source, label: str) -> Part:
    said = verdict(source.summary, differences(source.runs, joint_label(source.plan)))
    mixed = mixed_origins(source.runs)
    notes = [*markdown_notes(source.summary, source.choices).splitlines(), *([mixed] if mixed else [])]
    paired = [one for one in source.differences if one.interval]
    return Part(
        source=source,
        label=label,
        verdict=[paragraph.splitlines() for paragraph in said.split("\n\n")] if said else [[_NO_VERDICT]],
        notes=notes,
        table=_main_table(source),
        differences=_differences_table(paired),
        pictures=list(pictures(source)),
        predictions={name: data_address(sheet) for name, sheet in source.predictions.items()},
        origins=_origins(source),
        plan=yaml.safe_dump(source.plan.to_dict(), sort_keys=False, allow_unicode=True),
    )


def _main_table(source: Source) -> Table:
    header, rows = text_cells(source.summary)
    forms = {
        "Markdown": markdown_table(source.summary),
        "LaTeX": latex_table(source.summary),
        "CSV": csv_table(source.summary),
    }
    order = sorted(range(len(header)), key=lambda place: (place > 0, not header[place].startswith(_DELTA)))
    cells = [[(row[place], _to_sort(row[place])) for place in order] for row in rows]
    return Table([header[place] for place in order], cells, forms)


def _differences_table(found: Sequence[Difference]) -> Table | None:
    """The table of paired differences; ``None`` without any."""
    if not found:
        return None
    header, rows = difference_cells(found)
    cells = [[(cell, _to_sort(cell)) for cell in row] for row in rows]
    return Table(header, cells, {"Markdown": markdown_differences(found)})


def _beside_table(parts: Sequence[Part]) -> Table:
    """Delta-m of the rows of all folders, a column each."""
    columns = [{row_name(row): delta_m_cell(row) for row in part.source.summary if row["delta_m"]} for part in parts]
    names = dict.fromkeys(name for column in columns for name in column)
    header = ["", *(part.label for part in parts)]
    rows = [[name, *(column.get(name, "") for column in columns)] for name in names]
    text = tabulate(rows, header, tablefmt="github", disable_numparse=True)
    return Table(header, [[(cell, _to_sort(cell)) for cell in row] for row in rows], {"Markdown": text + "\n"})


def _to_sort(cell: str) -> str:
    """The number of a cell, after an arrow the second one; empty for words."""
    found = _NUMBER.match(cell.rpartition("-> ")[2])
    return found[0].replace(",", "").lstrip("+") if found else ""


def _origins(source: Source) -> dict[str, str]:
    """Name -> the values in the runs' origins; empty where earlier versions kept none."""
    found: dict[str, dict[str, None]] = {}
    for run in source.runs:
        for key, value in (run["origin"] or {}).items():
            found.setdefault(str(key), {})[str(value)] = None
    said = {key: ", ".join(values) for key, values in found.items() if key != "date"}
    dates = sorted(found.get("date", {}))
    return {**said, **({"trained": dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"} if dates else {})}


@cache
def _asset(name: str) -> str:
    return (files("recon.experiments.report.html") / name).read_text(encoding="utf-8")


@cache
def _template() -> Any:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"with_code": _with_code, "in_shell": lambda path: shlex.quote(str(path))}
    return environment.from_string(_asset("report.html.jinja"))


def _with_code(text: str) -> Markup:
    """Escaped text whose words between backticks are set as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))
