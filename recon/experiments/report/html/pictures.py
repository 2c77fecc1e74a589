"""The pictures of one benchmark in its report, as far as its folder has what they need."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from recon import plot
from recon.conflict import MeasuredMap
from recon.errors import number_of
from recon.experiments.report.figures import kept_layers
from recon.experiments.report.html.source import Source
from recon.experiments.report.html.vector import inline_svg
from recon.experiments.report.prices import of_one_network
from recon.plot.axes import WIDTH, height_of_rows
from recon.plot.pairs import LEGEND
from recon.plot.rows import CONFIDENCE, row_name
from recon.training.live_view import over_time

_MOST_CURVES = 8
"""Logged values that are drawn."""

Draw = Callable[[Axes], Any]


@dataclass(frozen=True)
class Picture:
    """A picture, or the reason why there is none.

    Attributes:
        title: What it shows.
        said: A sentence below it; without a picture, what is missing.
        svg: The pictures, if there are any.
    """

    title: str
    said: str
    svg: tuple[Markup, ...] = ()


def gains(source: Source) -> Picture:
    """Delta-m of the rows, and what they cost."""
    title = "Delta-m and its price"
    if not any(row["delta_m"] for row in source.summary):
        return Picture(title, "There are no single-task networks to compare with: `single: true` in the plan.")
    rows = [row for row in source.summary if row["delta_m"] is not None]
    priced = of_one_network(source.summary)
    drawn = [
        _svg(source, title, lambda axes: _without_legend(plot.delta_m(rows, ax=axes)), height_of_rows(len(rows), 0.26))
    ]
    if len(priced) > 1:
        figure = Figure(figsize=(WIDTH, 3 + 0.14 * len(priced)), layout="constrained")
        panels = figure.subplots(1, 2, sharey=True)
        plot.delta_m_against(priced, "parameters", ax=panels[0])
        plot.delta_m_against(priced, "flops", ax=panels[1])
        panels[1].set_ylabel("")
        figure.suptitle("Delta-m against its price", fontsize=10)
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", fontsize=7, ncols=2)
        drawn.append(inline_svg(figure, f"{source.path}: delta-m against parameters and FLOPs"))
    spread = any(row["delta_m"]["std"] is not None for row in rows)
    said = "Higher is better."
    if spread:
        said += " First picture: whiskers are the standard deviation over seeds."
    if len(drawn) > 1:
        said += " Second picture: left against growth of parameters, right of FLOPs, both over plain training"
        said += f"; whiskers are the {CONFIDENCE:.0%} interval of the mean, wide for few seeds." if spread else "."
    return Picture(title, said, tuple(drawn))


def along_depth(source: Source) -> Picture:
    """Conflict of each layer before and after Recon."""
    title = "Conflict along depth"
    if not source.of_joint("plain"):
        return Picture(title, "There is no plain joint training of the plan's network.")
    severity, before, after = _rates_of_both(source)
    layers = list(before[0])
    branched = [[layer for layer in layers if layer not in one] for one in after]
    svg = _svg(
        source,
        title,
        lambda axes: _legend_above(plot.rates_by_layer(before, severity, branched, after, ax=axes)),
        height_of_rows(len(layers)) + 0.4,
    )
    over = f"mean and range of {len(before)} seeds" if len(before) > 1 else "one seed"
    said = f"Joint training, from the input at the top to the heads at the bottom; {over}."
    return Picture(title, said if after else f"{said} There is no run with Recon beside it.", (svg,))


def cosines(source: Source) -> Picture:
    """Histograms of cosines before and after Recon."""
    title = "Cosines of task gradients"
    before, after = _maps_of_both(source)
    lone = before or list(source.before.values())
    if not lone:
        return Picture(title, "The folder keeps no conflict maps (runs/*/conflict_map.json), so no histograms.")
    svg = _svg(source, title, lambda axes: plot.cosine_histograms(lone, after, ax=axes), 3.4)
    if after:
        return Picture(title, f"Joint training, over {kept_layers(after)}.", (svg,))
    return Picture(title, "Plain joint training, all layers; the folder keeps no map of training with Recon.", (svg,))


def task_pairs(source: Source) -> Picture | None:
    """Friends and foes among tasks; ``None`` for two tasks, whose histogram tells it all."""
    maps = list(source.before.values())
    if not maps or len(maps[0].tasks) < 3:
        return None
    side = 2.4 + 0.32 * len(maps[0].tasks)
    figure = Figure(figsize=(side + 1.6, side), layout="constrained")
    axes = plot.task_pairs(maps, ax=figure.subplots())
    figure.colorbar(axes.images[0], ax=axes, shrink=0.8).ax.tick_params(labelsize=7)
    said = f"Plain joint training, {LEGEND}; friends stand beside each other."
    return Picture("Pairs of tasks", said, (inline_svg(figure, f"{source.path}: pairs of tasks"),))


def over_steps(source: Source) -> Picture | None:
    """Conflict by layer while plain joint training goes on; ``None`` where no map tells it."""
    maps = [one for one in source.before.values() if one.stretches is not None]
    if not maps:
        return None
    first = maps[0]
    ends, rates = over_time(first, source.plan.severity)
    figure = Figure(figsize=(WIDTH, height_of_rows(len(first.layers), 0.14)), layout="constrained")
    axes = plot.conflict_over_steps(rates, ends, first.layers, ax=figure.subplots())
    axes.collections[0].set_rasterized(True)  # as shapes, the squares would be most of the page
    figure.colorbar(axes.collections[0], ax=axes, shrink=0.9).set_label("S-conflict rate", fontsize=8)
    said = "Colours are the fraction of (step, pair) in conflict. "
    said += f"Plain joint training, one seed, severity {source.plan.severity}."
    return Picture("Conflict while training goes on", said, (inline_svg(figure, f"{source.path}: over steps"),))


def tree(source: Source) -> Picture:
    """The branched network with its trunk."""
    title = "The branched network"
    plain, recon = source.of_joint("plain"), source.of_joint("recon")
    both = [seed for seed in recon if seed in plain]
    if not both:
        return Picture(title, "There is no joint training with Recon beside plain training.")
    run, layers = recon[both[0]], list(plain[both[0]]["conflict_by_layer"])
    groups = source.groups(run)
    tasks = list(run["metrics"])
    branched = {
        layer: groups.get(layer) or [[task] for task in tasks]
        for layer in layers
        if layer not in run["conflict_by_layer"]
    }
    svg = _svg(source, title, lambda axes: plot.branches(layers, branched, tasks, ax=axes), height_of_rows(len(layers)))
    said = f"Joint training with Recon, seed {both[0]}. Lines are what runs: everything behind the first branched "
    return Picture(title, f"{said}layer runs once per task, also where its parameters are shared.", (svg,))


def training(source: Source) -> Picture:
    """Curves of the values that runs logged."""
    title = "Training curves"
    rows: dict[str, list[dict[str, list[tuple[float, float]]]]] = {}
    for run in source.runs:
        logged = source.logged(run)
        if logged:
            rows.setdefault(row_name(run), []).append(logged)
    names = list(dict.fromkeys(name for runs in rows.values() for logged in runs for name in logged))
    if not names and source.has_logs:
        return Picture(
            title,
            "The logs (runs/*/logs/) have no losses, so no curves: they have values of the test alone. "
            "A run of fewer steps than `log_every_n_steps` of the trainer, 50 by default, logs no losses.",
        )
    if not names:
        return Picture(title, "The folder keeps no logs (runs/*/logs/), so no curves.")
    drawn = names[:_MOST_CURVES]
    high = -(-len(drawn) // 2)
    figure = Figure(figsize=(WIDTH, 2.4 * high + 0.16 * len(rows)), layout="constrained")
    panels = figure.subplots(high, 2, squeeze=False).ravel()
    for axes, name in zip(panels, drawn, strict=False):
        _without_legend(plot.training_curves(_means(rows, name), name, ax=axes))
    for axes in panels[len(drawn) :]:
        axes.set_axis_off()
    lines = panels[0].lines  # in each panel all rows have the same looks
    figure.legend(lines, [str(line.get_label()) for line in lines], loc="outside lower center", fontsize=7, ncols=2)
    left = f" {number_of(len(names) - _MOST_CURVES, 'more value')} in the logs." if len(names) > _MOST_CURVES else ""
    return Picture(title, f"Mean over seeds.{left}", (inline_svg(figure, f"{source.path}: {title}"),))


def pictures(source: Source) -> Iterator[Picture]:
    """All pictures of a folder, in the order of the page."""
    for draw in (gains, along_depth, cosines, over_steps, task_pairs, tree, training):
        picture = draw(source)
        if picture is not None:
            yield picture


def _means(
    rows: Mapping[str, Sequence[Mapping[str, Sequence[tuple[float, float]]]]], name: str
) -> dict[str, tuple[list[float], list[float]]]:
    """Row -> epochs, and the means of its runs at each; rows without values keep their colour."""
    curves = {}
    for row, runs in rows.items():
        at: dict[float, list[float]] = {}
        for logged in runs:
            for epoch, value in logged.get(name, ()):
                at.setdefault(epoch, []).append(value)
        curves[row] = (sorted(at), [fmean(at[epoch]) for epoch in sorted(at)])
    return curves


def _rates_of_both(source: Source) -> tuple[float, list[dict[str, float]], list[dict[str, float]]]:
    """The severity, and the rates before and after: of the maps, else those of the results at 0."""
    before, after = _maps_of_both(source)
    if before:
        severity = source.plan.severity
        return severity, [one.rates(severity) for one in before], [one.rates(severity) for one in after]
    plain, recon = source.of_joint("plain"), source.of_joint("recon")
    seeds = [seed for seed in plain if seed in recon]
    own = [plain[seed]["conflict_by_layer"] for seed in seeds or plain]
    return 0.0, own, [recon[seed]["conflict_by_layer"] for seed in seeds]


def _maps_of_both(source: Source) -> tuple[list[MeasuredMap], list[MeasuredMap]]:
    """The maps of the seeds that have one before and one after."""
    both = [seed for seed in source.before if seed in source.after]
    return [source.before[seed] for seed in both], [source.after[seed] for seed in both]


def _without_legend(axes: Axes) -> None:
    legend = axes.get_legend()
    if legend is not None:
        legend.remove()


def _legend_above(axes: Axes) -> None:
    if axes.get_legend() is not None:
        axes.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=4, frameon=False)


def _svg(source: Source, title: str, draw: Draw, height: float) -> Markup:
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    draw(figure.subplots())
    return inline_svg(figure, f"{source.path}: {title}")
