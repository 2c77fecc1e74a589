"""The functions of the commands about conflict maps."""

from pathlib import Path

from recon.cli.map_file import load_map, severity_or_default, tell_if_assumed
from recon.conflict import (
    DEFAULT_SEVERITY,
    DEFAULT_TOP,
    ConflictMap,
    MeasuredMap,
    agree,
    compare,
    describe,
    describe_groups,
)


def show(path: Path, severity: float | None = None) -> None:
    """Print a conflict map as a table, the worst layer first.

    Args:
        path: File of a conflict map or of a {layer: score} ranking, or the name of a published
            ranking: nyuv2-mtan, cityscapes-segnet, multi-fashion-mnist-resnet18.
        severity: Severity S of the scores, at which a {layer: score} ranking was counted. By
            default that of a published or imported map, and -0.1 otherwise.
    """
    conflict_map = load_map(path, severity)
    print(describe(conflict_map, severity_or_default(severity, conflict_map.severity)))


def compare_maps(
    maps: list[Path], severity: float | None = None, top: int = DEFAULT_TOP, figure: Path | None = None
) -> None:
    """Print how far conflict maps agree: rank correlations and common top layers, against chance.

    Args:
        maps: Two maps or more. Each is the file of a conflict map or of a {layer: score} ranking,
            or the name of a published ranking: nyuv2-mtan, cityscapes-segnet,
            multi-fashion-mnist-resnet18.
        severity: Severity S of the scores, at which a {layer: score} ranking was counted. By
            default that of a published or imported map, and -0.1 otherwise.
        top: How many top layers of each to compare.
        figure: Where matrices of correlations and common layers are drawn, as PNG and PDF.
    """
    loaded = {f"{path}{f' ({n})' * maps[:n].count(path)}": load_map(path, severity) for n, path in enumerate(maps)}
    if len(loaded) < 2:
        raise ValueError(f"one map, {maps[0]}, is compared with none; give two or more")
    if severity is None and all(conflict_map.severity is None for conflict_map in loaded.values()):
        severity = DEFAULT_SEVERITY
    first, second, *others = loaded.values()
    if others or figure is not None or set(first.layers) == set(second.layers):
        agreement = agree(loaded, severity, top)
    if others:
        print(agreement)
    else:
        print(compare(first, second, severity, top))
        if set(first.layers) == set(second.layers):
            print(agreement.of_two())
    if figure is not None:
        from recon.experiments.report.figures import save
        from recon.experiments.report.map_agreement import map_agreement

        for written in save(map_agreement(agreement), figure):
            print(written)


def show_groups(
    path: Path, top: int | None = None, severity: float = DEFAULT_SEVERITY, number: int | None = None
) -> None:
    """Print which tasks may share a copy of a layer, for each layer, the worst layer first.

    Tasks join by their mean cosines in the layer; friends share, foes part.

    Args:
        path: File of a measured conflict map.
        top: How many layers; by default all.
        severity: Severity S of the scores; tasks part below this mean cosine.
        number: Number of groups in every layer, instead of parting by the severity.
    """
    conflict_map = load_map(path, severity)
    layers = conflict_map.top(len(conflict_map.layers) if top is None else top, severity)
    print(describe_groups(conflict_map, layers, severity, number))


def draw_map(path: Path, *, out: Path, layers: str | None = None) -> None:
    """Draw the mean cosine of each pair of tasks as a matrix, friends beside each other.

    Args:
        path: File of a measured conflict map.
        out: Where the PNG and the PDF are written, with any suffix or none.
        layers: Layers to draw, with commas between them; by default the mean over all.
    """
    from recon.experiments.report.figures import save
    from recon.experiments.report.task_pairs import task_pairs

    conflict_map = load_map(path, None)
    if not isinstance(conflict_map, MeasuredMap):
        raise ValueError(f"{path} has no cosines to draw: it is an imported ranking; give the map of a search")
    for written in save(task_pairs([conflict_map], () if layers is None else layers.split(",")), out):
        print(written)


def apply(
    path: Path, *, config: Path, top: int | None = None, severity: float | None = None, json: bool = False
) -> None:
    """Preview the branches that a conflict map gives a network, without data and training.

    Reports the layers matched by name, the layers that only one of the two has, and the growth in
    parameters and FLOPs. The map may come from other data and from a network of another width.

    Args:
        path: File of a conflict map or of a {layer: score} ranking, or the name of a published
            ranking: nyuv2-mtan, cityscapes-segnet, multi-fashion-mnist-resnet18.
        config: Fit configuration or benchmark plan of the network.
        top: How many layers to branch; by default the plan's number.
        severity: Severity S of the scores, at which a {layer: score} ranking was counted. By
            default that of a published or imported map, else the plan's, else -0.1.
        json: Whether to print JSON.
    """
    from json import dumps

    from recon.experiments.map_preview import preview_map, read_fit

    fit, plan = read_fit(config)
    planned = None if plan is None else plan.severity
    conflict_map = load_map(path, planned if severity is None else severity)
    count = top if top is not None else None if plan is None else plan.top
    if count is None:
        raise ValueError(f"{config} is no plan, and does not say how many layers to branch; give --top K")
    preview = preview_map(conflict_map, fit, count, severity_or_default(severity, conflict_map.severity, planned))
    print(dumps(preview.to_dict(), indent=2) if json else preview)


def import_map(path: Path, out: Path, severity: float | None = None) -> None:
    """Turn a {layer: score} ranking into a conflict map.

    Args:
        path: File of the ranking.
        out: Where the map is written.
        severity: Severity S at which the scores were counted. Without it -0.1 is assumed, and the
            map says so.
    """
    conflict_map = ConflictMap.import_scores(path, severity)
    tell_if_assumed(conflict_map)
    conflict_map.save(out)
    print(out)
