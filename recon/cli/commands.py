"""The functions of the commands about benchmarks and maps; their arguments are the commands' own."""

import sys
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

from recon.cli.imports import imported
from recon.conflict import DEFAULT_SEVERITY, DEFAULT_TOP, ConflictMap, ImportedMap, compare, describe, read_map


def demo(scenes: bool = False, out: Path | None = None, jobs: int | None = None) -> None:
    """Train on built-in images: single-task, joint, joint + Recon and a random control.

    Args:
        scenes: Three tasks for every pixel of built-in rooms, instead of two labels of an image.
        out: Folder of the results; by default ./recon-demo, and ./recon-demo-scenes for scenes.
        jobs: Runs at a time; by default one on an accelerator, otherwise one a core, at most four.
    """
    name = "demo-scenes" if scenes else "demo"
    benchmark(Path(str(files("recon.experiments") / f"{name}.yaml")), out=out or Path(f"recon-{name}"), jobs=jobs)


def benchmark(plan: Path, data: str | None = None, out: Path | None = None, jobs: int | None = None) -> None:
    """Carry out a plan: methods x variants x seeds. Finished runs are never repeated, interrupted ones resume.

    Args:
        plan: YAML of the plan; see configs/.
        data: Folder of the data set, for data sets that are read from one.
        out: Folder of the results; by default results/ and the plan's name.
        jobs: Runs at a time; by default one on an accelerator, otherwise one a core, at most four.
    """
    from recon.experiments import Plan
    from recon.experiments import benchmark as carry_out

    loaded = Plan.load(plan)
    loaded = replace(loaded, imports=tuple(dict.fromkeys((*loaded.imports, *imported))))
    report = carry_out(loaded, out or Path("results") / loaded.name, root=data, jobs=jobs)
    print(f"\n{report.table}")
    for path in report.paths:
        print(path)


def toy(out: Path = Path("recon-toy"), methods: str | None = None) -> None:
    """Draw the paths that methods take on two conflicting objectives in the plane: all of them in some minutes.

    Args:
        out: Folder of the figure and of the table of where they end.
        methods: Names of methods, with commas between them; by default all.
    """
    from recon.experiments.toy import toy as draw

    for path in draw(out, None if methods is None else methods.split(",")):
        print(path)


def show(path: Path, severity: float | None = None) -> None:
    """Print a conflict map as a table, the worst layer first.

    Args:
        path: File of a conflict map, or of a {layer: score} ranking; or the name of a published ranking: nyuv2-mtan,
            cityscapes-segnet, multi-fashion-mnist-resnet18.
        severity: Severity S of the scores; of a {layer: score} ranking the one it was counted at. By default that of a
            published or imported map, and -0.1 otherwise.
    """
    conflict_map = _load_map(path, severity)
    print(describe(conflict_map, _severity(severity, conflict_map.severity)))


def compare_maps(first: Path, second: Path, severity: float | None = None, top: int = DEFAULT_TOP) -> None:
    """Print how far two conflict maps agree: rank correlation, and what their top layers share.

    Args:
        first: File of a conflict map, or of a {layer: score} ranking; or the name of a published ranking: nyuv2-mtan,
            cityscapes-segnet, multi-fashion-mnist-resnet18.
        second: Another.
        severity: Severity S of the scores; of a {layer: score} ranking the one it was counted at. By default that of a
            published or imported map, and -0.1 otherwise.
        top: How many top layers of each to compare.
    """
    maps = _load_map(first, severity), _load_map(second, severity)
    imported = any(conflict_map.severity is not None for conflict_map in maps)
    print(compare(*maps, DEFAULT_SEVERITY if severity is None and not imported else severity, top))


def apply(
    path: Path, *, config: Path, top: int | None = None, severity: float | None = None, json: bool = False
) -> None:
    """Tell what a conflict map would do to a network, found on whatever data and width; nothing is read or trained.

    Reports the layers matched by name, those that only one of the two has, and the growth in parameters and FLOPs.

    Args:
        path: File of a conflict map, or of a {layer: score} ranking; or the name of a published ranking: nyuv2-mtan,
            cityscapes-segnet, multi-fashion-mnist-resnet18.
        config: Fit configuration or benchmark plan of the network.
        top: How many layers to branch; by default the plan's number.
        severity: Severity S of the scores; of a {layer: score} ranking the one it was counted at. By default that of a
            published or imported map, else the plan's, else -0.1.
        json: Whether to print JSON.
    """
    from json import dumps

    from recon.experiments.map_preview import preview_map, read_fit

    fit, plan = read_fit(config)
    planned = None if plan is None else plan.severity
    conflict_map = _load_map(path, planned if severity is None else severity)
    count = top if top is not None else None if plan is None else plan.top
    if count is None:
        raise ValueError(f"{config} is no plan, and does not say how many layers to branch; give --top K")
    preview = preview_map(conflict_map, fit, count, _severity(severity, conflict_map.severity, planned))
    print(dumps(preview.to_dict(), indent=2) if json else preview)


def import_map(path: Path, out: Path, severity: float | None = None) -> None:
    """Turn a {layer: score} ranking into a conflict map.

    Args:
        path: File of the ranking.
        out: Where the map is written.
        severity: Severity S at which the scores were counted. Without it -0.1 is assumed, and the map says so.
    """
    conflict_map = ConflictMap.import_scores(path, severity)
    _tell_if_assumed(conflict_map)
    conflict_map.save(out)
    print(out)


def _load_map(path: Path, severity: float | None) -> ConflictMap:
    conflict_map = read_map(path, severity)
    _tell_if_assumed(conflict_map)
    return conflict_map


def _tell_if_assumed(conflict_map: ConflictMap) -> None:
    if isinstance(conflict_map, ImportedMap) and conflict_map.severity_is_assumed:
        print(
            f"{conflict_map.provenance['source']} does not say at which severity its scores were counted: "
            f"{conflict_map.severity} is assumed; --severity=S tells it",
            file=sys.stderr,
        )


def _severity(*candidates: float | None) -> float:
    """The first severity that is told, of those asked for, known to a map, and planned."""
    return next((severity for severity in candidates if severity is not None), DEFAULT_SEVERITY)
