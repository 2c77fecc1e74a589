"""All commands, and the functions of those about benchmarks.

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
    "toy": "recon.cli.commands:draw_paths",
    "map show": "recon.cli.maps:show",
    "map compare": "recon.cli.maps:compare_maps",
    "map groups": "recon.cli.maps:show_groups",
    "map draw": "recon.cli.maps:draw_map",
    "map select": "recon.cli.map_select:select",
    "map apply": "recon.cli.maps:apply",
    "map import": "recon.cli.maps:import_map",
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


def draw_paths(out: Path = Path("recon-toy"), methods: str | None = None) -> None:
    """Draw the paths of methods on two conflicting objectives in the plane, in a few minutes.

    Args:
        out: Folder of the figure and of the table of end points.
        methods: Names of methods, with commas between them; by default all.
    """
    from recon.experiments.toy import toy as draw

    for path in draw(out, None if methods is None else methods.split(",")):
        print(path)
