"""Write the pages whose numbers come from results or from code, so that they do not drift.

    python benchmarks/pages.py                     # every template below docs/
    python benchmarks/pages.py --only results/yeast
    python benchmarks/pages.py --check true        # write nothing; fail if a page would change

A template is a page with expressions between ``{{`` and ``}}``. ``page.md.jinja`` stands in a
folder of results and becomes its ``README.md``; any other ``x.md.jinja`` becomes ``x.md``.

From the ``results.json`` beside it a page has: ``table()``, whole or with some columns;
``differences()``, seed by seed, all or those of some rows; ``delta_m(row)``, ``parameters(row)``,
``growth(row)``, ``flops_growth(row)``; ``metric(row, title)``; ``over(row, other)``, a difference
with ``mean``, ``interval``, ``wins`` and ``verdict``, of which ``gap(row, other)`` is the text.
``grid(entry)`` lists what the grid of an entry tried. Rows and metrics have their names in the
table. ``results("yeast").delta_m(row)`` and so on ask another folder. Beside the page ``table.csv``
and the figures ``delta_m.png`` and ``prices.png`` are written, if the page shows them.

From ``points.json``, the file of ``search_cost.py``, a page has ``search_cost()``, its table, and
``search_cost.png``; from ``stability.json``, the file of ``ranking_stability.py``, the table
``ranking_stability()``; from ``seeds.json``, the file of ``seed_agreement.py``, the table
``seed_agreement()``. From the code a page has the functions of ``catalogue.py``, such as
``data_sets()``.
"""

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from functools import cache, cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from jinja2 import Environment, StrictUndefined
from jsonargparse import auto_cli
from matplotlib.figure import Figure

sys.path.append(str(Path(__file__).parent))
import catalogue
import ranking_stability
import search_cost
import seed_agreement

from recon.errors import unknown_name
from recon.experiments.report import figures
from recon.experiments.report.differences import Difference, differences, markdown_differences
from recon.experiments.report.prices import delta_m_against_prices, priced
from recon.experiments.report.summary import summarise
from recon.experiments.report.table import csv_table, markdown_table, row_name
from recon.files.atomic import write_atomically
from recon.files.reading import read_object

DOCS = Path(__file__).parents[1] / "docs"
TEMPLATE = "page.md.jinja"
T = TypeVar("T")


class Results:
    """The results of a folder, as the expressions of a page ask for them.

    Args:
        folder: The folder with ``results.json``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        record = read_object(folder / "results.json")
        self.runs: list[dict[str, Any]] = record["runs"]
        self.grids: dict[str, dict[str, Any]] = record.get("grids", {})
        self.summary = summarise(self.runs)

    @cached_property
    def rows(self) -> dict[str, Mapping[str, Any]]:
        """Name in the table -> row of the summary."""
        return {row_name(row): row for row in self.summary}

    @cached_property
    def cells(self) -> dict[str, dict[str, str]]:
        """Name of a row -> title of a column -> text."""
        header, _, *lines = ([cell.strip() for cell in line.split("|")[1:-1]] for line in self._lines())
        return {name: dict(zip(header[1:], cells, strict=True)) for name, *cells in lines}

    def _lines(self) -> list[str]:
        return markdown_table(self.summary).splitlines()

    def row(self, name: str) -> Mapping[str, Any]:
        """A row of the summary by its name in the table."""
        if name not in self.rows:
            raise unknown_name("row", name, self.rows, str(self.folder))
        return self.rows[name]

    def table(self, *titles: str) -> str:
        """The table, with all columns or some."""
        if not titles:
            return markdown_table(self.summary).rstrip()
        lines = [["", *titles], ["---", *("---:" for _ in titles)]]
        lines += [[name, *(cells[title] for title in titles)] for name, cells in self.cells.items()]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)

    def differences(self, *names: str) -> str:
        """The paired differences that the report has, all or those whose first row is named."""
        joint = next((run["method"] for run in self.runs if run["variant"] == "plain"), None)
        found = [one for one in differences(self.runs, joint) if not names or one.first in names]
        return markdown_differences(found).rstrip()

    def over(self, first: str, second: str) -> Difference:
        """The difference of two rows, seed by seed."""
        own, other = (self._by_seed(self.row(name)) for name in (first, second))
        seeds = tuple(sorted(own.keys() & other.keys()))
        return Difference(first, second, seeds, tuple(own[seed] - other[seed] for seed in seeds))

    def _by_seed(self, row: Mapping[str, Any]) -> dict[int, float]:
        own = [run for run in self.runs if (run["method"], run["variant"]) == (row["method"], row["variant"])]
        return {run["seed"]: run["delta_m"] for run in own}

    def gap(self, first: str, second: str) -> str:
        """The difference of two rows as text: mean, interval, seeds."""
        found = self.over(first, second)
        if found.interval is None:
            return f"{found.mean:+.2f}"
        low, high = found.interval
        return f"{found.mean:+.2f} ({low:+.2f} to {high:+.2f}, better in {found.wins} of {len(found.seeds)} seeds)"

    def grid(self, name: str) -> str:
        """The settings that the grid of an entry tried, with their scores."""
        if name not in self.grids:
            raise unknown_name("grid", name, self.grids, str(self.folder))
        tried = self.grids[name]["tried"]
        lines = [[*(key.rpartition(".")[2] for key in tried[0]["setting"]), "score on held-out training data"]]
        lines += [["---"] * len(lines[0])]
        lines += [[*map(str, one["setting"].values()), _score(one["score"])] for one in tried]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)

    def metric(self, name: str, title: str) -> str:
        """A cell of the table."""
        self.row(name)
        if title not in self.cells[name]:
            raise unknown_name("column", title, self.cells[name], str(self.folder))
        return self.cells[name][title]

    def delta_m(self, name: str) -> str:
        """Delta-m of a row, with its deviation over seeds."""
        value = self.row(name)["delta_m"]
        return f"{value['mean']:+.2f}" + ("" if value["std"] is None else f" ± {value['std']:.2f}")

    def parameters(self, name: str) -> str:
        """The number of parameters of a row."""
        return f"{self.row(name)['parameters']:,.0f}"

    def growth(self, name: str) -> str:
        """The growth of a row's parameters."""
        return f"{self.row(name)['parameters_growth']:+.1%}"

    def flops_growth(self, name: str) -> str:
        """The growth of a row's FLOPs."""
        return f"{self.row(name)['flops_growth']:+.1%}"

    def texts(self) -> dict[Path, str]:
        """The files that are text, by their paths."""
        return {self.folder / "table.csv": csv_table(self.summary)}

    def draw(self, page: str) -> None:
        """Draw the figures of the page that ``results.json`` suffices for."""
        made = {
            "delta_m": lambda: figures.delta_m_dots(self.summary),
            "prices": lambda: delta_m_against_prices(priced(self.summary)),
        }
        for name, figure in made.items():
            if f"]({name}.png)" in page:
                _save_png(figure(), self.folder / name)


def _score(value: float | None) -> str:
    return "diverged" if value is None else f"{value:.2f}"


def _save_png(figure: Figure, path: Path) -> None:
    with TemporaryDirectory() as folder:
        png, _ = figures.save(figure, Path(folder) / path.name)
        shutil.copyfile(png, path.with_name(f"{path.name}.png"))


CATALOGUE = (
    catalogue.architectures,
    catalogue.architecture_arguments,
    catalogue.backbones,
    catalogue.data_sections,
    catalogue.data_sets,
    catalogue.kinds_of_tasks,
)

EXPRESSIONS = (
    "table",
    "differences",
    "over",
    "gap",
    "metric",
    "delta_m",
    "parameters",
    "growth",
    "flops_growth",
    "grid",
)


class Page:
    """A page and its template.

    Args:
        template: The path of the template.
    """

    def __init__(self, template: Path) -> None:
        self.template = template
        self.path = template.with_name("README.md") if template.name == TEMPLATE else template.with_suffix("")
        own = template.name == TEMPLATE and (template.parent / "results.json").exists()
        self.results = Results(template.parent) if own else None

    @property
    def name(self) -> str:
        """Its name for ``--only``: the folder below docs, or the file without its ending."""
        page = self.path.parent if self.template.name == TEMPLATE else self.path.with_suffix("")
        return str(page.relative_to(DOCS))

    def text(self) -> str:
        """The text of the page."""
        environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True, trim_blocks=True)
        names = {name: getattr(self.results, name) for name in EXPRESSIONS} if self.results else {}
        names |= {
            "results": cache(lambda folder: Results(DOCS / "results" / folder)),
            "search_cost": lambda: search_cost.table(self._points()),
            "ranking_stability": lambda: ranking_stability.table(self._objects("stability", ranking_stability.Pair)),
            "seed_agreement": lambda: seed_agreement.table(self._objects("seeds", seed_agreement.Seeds)),
        }
        names |= {table.__name__: table for table in CATALOGUE}
        return environment.from_string(self.template.read_text()).render(names)

    def _points(self) -> list[search_cost.Point]:
        return self._objects("points", search_cost.Point)

    def _objects(self, name: str, kind: type[T]) -> list[T]:
        """What a file beside the template holds."""
        return [kind(**one) for one in json.loads((self.template.parent / f"{name}.json").read_text())]

    def texts(self) -> dict[Path, str]:
        """The files that are text, by their paths."""
        return {self.path: self.text(), **(self.results.texts() if self.results else {})}

    def draw(self) -> None:
        """Draw the figures of its results."""
        if self.results:
            self.results.draw(self.text())
        if "](search_cost.png)" in self.text():
            _save_png(search_cost.figure(self._points()), self.path.with_name("search_cost"))


def pages(only: str | None) -> Sequence[Page]:
    """The pages with a template, or one of them."""
    found = {page.name: page for page in map(Page, sorted(DOCS.rglob("*.md.jinja")))}
    if only is None:
        return [*found.values()]
    if only not in found:
        raise unknown_name("page", only, found, str(DOCS))
    return [found[only]]


def main(only: str | None = None, check: bool = False) -> None:
    """Write the pages, or check them.

    Args:
        only: The page below docs, such as ``results/yeast``; all by default.
        check: Write nothing, and exit with 1 if a page is not what results and code give.
    """
    stale = []
    for page in pages(only):
        for path, text in page.texts().items():
            if path.exists() and path.read_text() == text:
                continue
            stale.append(path)
            if not check:
                write_atomically(path, text)
                print(path)
        if not check:
            page.draw()
    if check and stale:
        sys.exit("not what results and code give, run benchmarks/pages.py: " + ", ".join(map(str, stale)))


if __name__ == "__main__":
    auto_cli(main)
