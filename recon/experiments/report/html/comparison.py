"""Several benchmarks in one report: their settings and rows beside each other."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from recon import plot
from recon.experiments.report.differences import Difference
from recon.experiments.report.html.pictures import Picture
from recon.experiments.report.html.source import Source
from recon.experiments.report.html.vector import inline_svg
from recon.plot.axes import WIDTH, height_of_rows
from recon.plot.rows import row_name


def labels(sources: Sequence[Source]) -> list[str]:
    """A name for each folder: its own, or its path where two have one name."""
    names = [source.name for source in sources]
    return [name if names.count(name) == 1 else str(source.path) for name, source in zip(names, sources, strict=True)]


def settings(source: Source) -> dict[str, str]:
    """The keys of a plan with dots between them -> their values as text."""
    found: dict[str, str] = {}
    plan = source.plan.to_dict()
    methods = plan.pop("methods")
    _flatten(plan, "", found)
    for entry in methods:
        given = {key: value for key, value in entry.items() if value not in (None, "", {}, []) and key != "name"}
        _flatten(given, f"methods.{entry.get('name') or entry['method']}", found)
    return found


def beside(sources: Sequence[Source]) -> list[tuple[str, list[str], bool]]:
    """Each setting, its value in each folder, and whether folders differ in it; differing first."""
    all_settings = [settings(source) for source in sources]
    keys = dict.fromkeys(key for each in all_settings for key in each)
    rows = [(key, [each.get(key, "") for each in all_settings]) for key in keys]
    marked = [(key, values, len(set(values)) > 1) for key, values in rows]
    return sorted(marked, key=lambda row: not row[2])


def same_rows(sources: Sequence[Source]) -> list[Difference]:
    """The paired differences between rows of one name, of the later folders over the first."""
    found = []
    names = labels(sources)
    first = _delta_m(sources[0])
    for source, name in zip(sources[1:], names[1:], strict=True):
        for row, values in _delta_m(source).items():
            seeds = tuple(sorted(values.keys() & first.get(row, {}).keys()))
            if seeds:
                gaps = tuple(values[seed] - first[row][seed] for seed in seeds)
                found.append(Difference(f"{row}, {name}", f"{row}, {names[0]}", seeds, gaps))
    return found


def maps_beside(sources: Sequence[Source]) -> Picture:
    """The conflict of common layers in the maps of all folders."""
    title = "Conflict maps beside each other"
    maps = {
        name: next(iter(source.before.values()))
        for name, source in zip(labels(sources), sources, strict=True)
        if source.before
    }
    if len(maps) < 2:
        return Picture(title, "Fewer than two of the folders keep a conflict map.")
    common = [layer for layer in next(iter(maps.values())).layers if all(layer in one.layers for one in maps.values())]
    if not common:
        return Picture(title, "The networks have no layer in common.")
    figure = Figure(figsize=(WIDTH, height_of_rows(len(common))), layout="constrained")
    plot.compare_by_layer(dict(list(maps.items())[:7]), sources[0].plan.severity, ax=figure.subplots())
    return Picture(title, "Plain joint training, one seed each.", (inline_svg(figure, title),))


def _delta_m(source: Source) -> dict[str, dict[int, float]]:
    rows: dict[str, dict[int, float]] = {}
    for run in source.runs:
        if run["delta_m"] is not None:
            rows.setdefault(row_name(run), {})[run["seed"]] = run["delta_m"]
    return rows


def _flatten(value: Any, key: str, found: dict[str, str]) -> None:
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            _flatten(inner, f"{key}.{name}" if key else str(name), found)
    elif isinstance(value, list) and not any(isinstance(one, list | dict) for one in value):
        found[key] = ", ".join(map(str, value))
    else:
        found[key] = "" if value in (None, {}) else str(value)
