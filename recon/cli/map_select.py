"""The command ``recon map select``: the layers that a map selects on a network, and their price."""

import sys
from pathlib import Path

from recon.cli.map_file import load_map, severity_or_default
from recon.conflict import Rule


def select(
    path: Path,
    *,
    config: Path,
    severity: float | None = None,
    top: int | None = None,
    threshold: int | None = None,
    rate: float | None = None,
    parameters: float | None = None,
    flops: float | None = None,
    blocks: int | None = None,
    tree: str | None = None,
    figure: Path | None = None,
    json: bool = False,
) -> None:
    """Print the layers that a rule selects, the score that they capture, and their price.

    Conditions may stand together. The layers are those of highest total score that meet all, which
    is exact. Without any, a table shows a row of budgets. Growth is that of the backbone, without
    heads; no data are read.

    Args:
        path: File of a conflict map or of a {layer: score} ranking, or the name of a published
            ranking: nyuv2-mtan, cityscapes-segnet, multi-fashion-mnist-resnet18.
        config: Fit configuration or benchmark plan of the network.
        severity: Severity S of the scores, at which a {layer: score} ranking was counted. By
            default that of a published or imported map, else the plan's, else -0.1.
        top: Number of layers, at most.
        threshold: Only layers with this score or more.
        rate: Only layers with this rate or more; needs a measured map.
        parameters: Growth of the shared parameters, at most: 0.05 is +5 %.
        flops: Growth of the FLOPs of a forward, at most: 0.25 is +25 %.
        blocks: Number of whole blocks, such as layer4.1, those of highest mean score.
        tree: File of a task tree, by which groups of tasks share copies in any case; budgets and
            growth are beyond the network with this tree. By default that of the configuration's
            model.branch.tree.
        figure: Where a picture of score against FLOPs and parameters is written, as PNG and PDF.
        json: Whether to print JSON.
    """
    from json import dumps

    from recon.experiments.map_preview import read_fit
    from recon.experiments.selection_preview import MapOnNetwork, describe_curve

    conditions = (top, threshold, rate, parameters, flops, blocks)
    rule = None if all(one is None for one in conditions) else Rule(*conditions)
    fit, plan = read_fit(config)
    planned = None if plan is None else plan.severity
    conflict_map = load_map(path, planned if severity is None else severity)
    own = fit.configuration["model"].get("branch") or {}
    on_network = MapOnNetwork(
        conflict_map,
        fit.without_files(),
        severity_or_default(severity, conflict_map.severity, planned),
        own.get("tree") if tree is None else tree,
    )
    if rule is None:
        curve = on_network.curve()
        record: object = [one.to_dict() for one in curve]
        text = describe_curve(curve)
    else:
        selection = on_network.timed(on_network.select(rule))
        record, text = selection.to_dict(), str(selection)
    print(dumps(record, indent=2) if json else f"{on_network.title}\n{text}")
    if figure is not None:
        from recon.experiments.report.figures import save
        from recon.experiments.report.score_and_price import score_and_price

        tops, budgets = on_network.tops(), {name: on_network.frontier(name) for name in ("flops", "parameters")}
        for written in save(score_and_price(tops, **budgets), figure):
            print(written, file=sys.stderr)
