"""All commands, and the functions of those about benchmarks and maps.

A new command is a function, a line of :data:`COMMANDS` and a line of :data:`USAGE`. Its arguments
and its help come from the function's signature and docstring. If it reads class paths, name it in
:data:`WITH_CLASSES` too.
"""

import sys
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Literal

from recon.cli.imports import imported
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

USAGE = """\
usage: recon [--import MODULE] COMMAND ...
       recon --version

  demo                      the whole pipeline on built-in data, in minutes; writes ./recon-demo unless --out
  fit|search                one run from a YAML (--config FILE); search writes a conflict map
  validate|test|predict     a checkpoint of a run (--ckpt_path FILE): its metrics, its predictions as files
  benchmark PLAN            methods x (plain, +Recon, controls) x seeds -> tables and figures; resumable
                            --dry-run tells the runs, their time and memory, and trains nothing
  table DIR ... --out DIR   several benchmarks of the same tasks and data in one table
  list KIND [PATTERN]       methods, backbones, data, tasks, architectures: names for configurations, as in '*grad*'
  report DIR ...            one HTML file of a benchmark, or of several beside each other
  plan schema               JSON schema of plans, for editors
  completion bash|zsh       a script that completes commands and options in a shell
  toy                       what each method does on two objectives in the plane; writes ./recon-toy
  map show|compare          conflict maps as tables
  map groups|draw           groups of tasks that share copies of layers; a picture of task pairs
  map select                the layers that a map selects within budgets of parameters and FLOPs
  map apply|import          a map on another network; a published ranking as a map
  data prepare|verify       NYUv2, CityScapes, CelebA, PASCAL-Context: official files to what benchmarks read

recon COMMAND --help tells more. --import MODULE imports a module of yours first; it may register methods.
"""

TRAINING = ("fit", "search", "validate", "test", "predict")
"""Commands of Lightning's command line."""

WITH_CLASSES = (*((command,) for command in (*TRAINING, "benchmark")), ("map", "apply"), ("map", "select"))
"""Commands that read class paths from the command line or from a YAML."""

COMMANDS = {
    "demo": "recon.cli.commands:demo",
    "benchmark": "recon.cli.commands:benchmark",
    "table": "recon.cli.commands:table",
    "list": "recon.cli.listing:list_names",
    "report": "recon.cli.commands:report",
    "plan schema": "recon.experiments.plan_schema:print_schema",
    "completion": "recon.cli.completion:completion",
    "toy": "recon.cli.commands:toy",
    "map show": "recon.cli.commands:show",
    "map compare": "recon.cli.commands:compare_maps",
    "map groups": "recon.cli.commands:show_groups",
    "map draw": "recon.cli.commands:draw_map",
    "map select": "recon.cli.map_select:select",
    "map apply": "recon.cli.commands:apply",
    "map import": "recon.cli.commands:import_map",
    "data prepare nyuv2": "recon.data.preparation:prepare_nyuv2",
    "data prepare cityscapes": "recon.data.preparation:prepare_cityscapes",
    "data prepare celeba": "recon.data.preparation:prepare_celeba",
    "data prepare pascal_context": "recon.data.preparation:prepare_pascal_context",
    "data verify": "recon.data.preparation:verify",
}
"""Command -> its function, imported when the command is called."""


def demo(scenes: bool = False, out: Path | None = None, jobs: int | None = None) -> None:
    """Train on built-in images: single-task, joint, joint + Recon and a random control.

    Args:
        scenes: Three tasks for every pixel of built-in rooms, instead of two labels of an image.
        out: Folder of the results; by default ./recon-demo, or ./recon-demo-scenes.
        jobs: Runs at a time; by default one on an accelerator, else one per core, at most four.
    """
    name = "demo-scenes" if scenes else "demo"
    benchmark(Path(str(files("recon.experiments") / f"{name}.yaml")), out=out or Path(f"recon-{name}"), jobs=jobs)


def benchmark(
    plan: Path,
    data: str | None = None,
    out: Path | None = None,
    jobs: int | None = None,
    reuse: list[Path] = [],  # noqa: B006  # read by the parser, never changed
    dry_run: bool = False,
    only: list[str] = [],  # noqa: B006
    executor: Literal["local", "ray"] = "local",
    address: str | None = None,
    cpus: float | None = None,
    gpus: float | None = None,
) -> None:
    """Carry out a plan: methods x variants x seeds. Finished runs are kept, others resume.

    Args:
        plan: YAML of the plan; see configs/.
        data: Folder of the data set, for data sets that are read from one.
        out: Folder of the results; by default results/ and the plan's name.
        jobs: Runs at a time; by default one on an accelerator, else one per core, at most four.
        reuse: Folders of other benchmarks; finished runs that are the same are copied from there.
        dry_run: Tell the runs and what they cost, by a few measured steps; train and write nothing.
        only: The runs to carry out, with those that they need: ids, patterns, or places from 0.
        executor: Where runs are carried out: processes of this machine, or a Ray cluster.
        address: HOST:PORT of the Ray cluster; by default this machine's, else a new one here.
        cpus: Cores that each run takes of the Ray cluster; by default one per device.
        gpus: GPUs that each run takes of it, such as 0.5; by default one per device, if there are.
    """
    from recon.experiments import Plan
    from recon.experiments import benchmark as carry_out
    from recon.experiments.executors.choice import executor_of

    loaded = Plan.load(plan)
    loaded = replace(loaded, imports=tuple(dict.fromkeys((*loaded.imports, *imported))))
    out = out or Path("results") / loaded.name
    if dry_run:
        from recon.experiments.dry_run.preview import preview

        print(preview(loaded, out, root=data, jobs=jobs, reuse=reuse, only=only))
        return
    chosen = executor_of(executor, loaded, jobs, address, cpus, gpus)
    report = carry_out(loaded, out, root=data, executor=chosen, reuse=reuse, only=only)
    print(f"\n{report.table}")
    for path in report.paths:
        print(path)


def table(folders: list[Path], *, out: Path) -> None:
    """Join the runs of several benchmarks in one table, with delta-m over all single-task runs.

    Args:
        folders: Folders of benchmarks that have the same tasks and data; they are only read.
        out: Folder of the joined table.
    """
    from recon.experiments.report.joined import join

    report = join(folders, out)
    print(report.table)
    for path in report.paths:
        print(path)


def report(folders: list[Path], *, out: Path | None = None) -> None:
    """Write one HTML file that holds verdict, tables, pictures and settings of benchmarks.

    Args:
        folders: Folders that `recon benchmark` wrote; they are only read. Several are compared.
        out: The file; by default report.html in the first folder.
    """
    from recon.experiments.report.html.document import write_report

    file = out or folders[0] / "report.html"
    for line in write_report(folders, file):
        print(f"recon: {line}", file=sys.stderr)
    print(file)


def toy(out: Path = Path("recon-toy"), methods: str | None = None) -> None:
    """Draw the paths of methods on two conflicting objectives in the plane, in a few minutes.

    Args:
        out: Folder of the figure and of the table of end points.
        methods: Names of methods, with commas between them; by default all.
    """
    from recon.experiments.toy import toy as draw

    for path in draw(out, None if methods is None else methods.split(",")):
        print(path)


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
