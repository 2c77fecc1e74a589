"""The command ``recon``."""

import os
import sys
import warnings
from argparse import ArgumentError
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from pkgutil import resolve_name

from recon.cli.startup import listen_to_interrupts
from recon.cli.working_folder import append_working_folder, append_working_folder_for
from recon.configuration import CommandParser
from recon.conflict import DEFAULT_SEVERITY, ConflictMap, ImportedMap, compare, describe, read_map
from recon.tasks.names import import_by_name, unknown_name

USAGE = """\
usage: recon [--import MODULE] COMMAND ...

  demo                      the whole pipeline on built-in data, in minutes; writes ./recon-demo unless --out
  fit|search                one run from a YAML (--config FILE); search writes a conflict map
  validate|test|predict     a checkpoint of a run (--ckpt_path FILE): its metrics, its predictions as files
  benchmark PLAN            methods x (plain, +Recon, controls) x seeds -> tables and figures; resumable
  toy                       what each method does on two objectives in the plane; writes ./recon-toy
  map show|compare          conflict maps as tables
  map apply|import          a map on another network; a published ranking as a map
  data prepare|verify       NYUv2 and CityScapes, from the official files to what the benchmarks read

recon COMMAND --help tells more. --import MODULE imports a module of yours first; it may register methods.
"""

TRAINING = ("fit", "search", "validate", "test", "predict")
_WITH_CLASSES = [[command] for command in (*TRAINING, "benchmark")] + [["map", "apply"]]
HELP = ("-h", "--help", "help")


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
    loaded = replace(loaded, imports=tuple(dict.fromkeys((*loaded.imports, *_imported))))
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


def compare_maps(first: Path, second: Path, severity: float | None = None, top: int = 25) -> None:
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

    from recon.experiments.map_preview import apply_map, fit_section

    fit, plan = fit_section(config)
    planned = None if plan is None else plan.severity
    conflict_map = _load_map(path, planned if severity is None else severity)
    count = top if top is not None else None if plan is None else plan.top
    if count is None:
        raise ValueError(f"{config} is no plan, and does not say how many layers to branch; give --top K")
    application = apply_map(conflict_map, fit, count, _severity(severity, conflict_map.severity, planned))
    print(dumps(application.to_dict(), indent=2) if json else application)


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


COMMANDS = {
    "demo": "recon.cli.dispatch:demo",
    "benchmark": "recon.cli.dispatch:benchmark",
    "toy": "recon.cli.dispatch:toy",
    "map show": "recon.cli.dispatch:show",
    "map compare": "recon.cli.dispatch:compare_maps",
    "map apply": "recon.cli.dispatch:apply",
    "map import": "recon.cli.dispatch:import_map",
    "data prepare nyuv2": "recon.data.preparation:prepare_nyuv2",
    "data prepare cityscapes": "recon.data.preparation:prepare_cityscapes",
    "data verify": "recon.data.preparation:verify",
}
"""Where the function of each command is, imported when it is used; its arguments are the command's."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the command ``recon``; bad input ends it with a plain message and status 1."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    listen_to_interrupts()
    try:
        _run(_take_imports(words))
    except KeyboardInterrupt as interrupt:
        print(f"recon: interrupted{_how_to_go_on(words, str(interrupt))}", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # somebody closed our output, as in `recon map show FILE | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:  # whatever bad input leads to is told in one way
        if "RECON_TRACEBACK" in os.environ:
            raise
        sys.exit(f"recon: {_worded(error)}\n(RECON_TRACEBACK=1 shows where)")


def _how_to_go_on(words: list[str], how: str) -> str:
    """What an interrupted command leaves; ``how`` is what it says of it itself."""
    resumes = any(words[: len(command)] == command for command in (["benchmark"], ["demo"], ["data", "prepare"]))
    how = how or ("the same command goes on from what is finished" if resumes else "")
    return f"; {how}" if how else ""


def _worded(error: Exception) -> str:
    """An error in a line; one that no check of ours has worded says its kind too."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, ArgumentError | ValueError | TypeError | RuntimeError | OSError) and str(error):
        return str(error)
    return f"{type(error).__name__}: {error}"


_imported: list[str] = []  # modules named by --import, which worker processes import too


def _take_imports(arguments: list[str]) -> list[str]:
    """Import what ``--import`` names; the other arguments are returned."""
    _imported.clear()
    rest = []
    words = iter(arguments)
    for word in words:
        if word == "--import" or word.startswith("--import="):
            _import(_value(word, words))
        else:
            rest.append(word)
    return rest


def _value(flag: str, words: Iterator[str]) -> str:
    """The value of a flag, written ``--flag=value`` or ``--flag value``."""
    return flag.split("=", 1)[1] if "=" in flag else next(words, "")


def _import(name: str) -> None:
    append_working_folder()
    import_by_name(name)
    _imported.append(name)


def _run(arguments: list[str]) -> None:
    if arguments[:1] in _WITH_CLASSES or arguments[:2] in _WITH_CLASSES:
        append_working_folder_for(arguments)
    if not arguments or arguments[0] in HELP:
        print(USAGE, end="")
    elif arguments[0] in TRAINING:
        _train(arguments)
    else:
        words = _command_words(arguments)
        if words in COMMANDS:
            _call(resolve_name(COMMANDS[words]), f"recon {words}", arguments[len(words.split()) :])
        else:
            _list_commands(words)


def _command_words(arguments: list[str]) -> str:
    """The words that name a command, or a group of commands if only help or nothing follows that."""
    words: list[str] = []
    for word in arguments:
        known = [name.split() for name in COMMANDS if name.split()[: len(words)] == words]
        if " ".join(words) in COMMANDS or (words and word in HELP):
            break
        if not any(word == name[len(words)] for name in known):
            names = dict.fromkeys(" ".join(name[: len(words) + 1]) for name in known)
            raise unknown_name("command", " ".join([*words, word]), [*(() if words else TRAINING), *names])
        words.append(word)
    return " ".join(words)


def _list_commands(group: str) -> None:
    print(f"usage: recon {group} COMMAND ...\n")
    for name, command in COMMANDS.items():
        if name.startswith(f"{group} "):
            print(f"  {name.removeprefix(group + ' '):<20} {resolve_name(command).__doc__.splitlines()[0]}")


def _call(command: Callable[..., None], name: str, arguments: list[str]) -> None:
    """Call a command with what its signature makes of the arguments."""
    for flag, word in zip(["", *arguments], arguments, strict=False):
        if not word or (word.startswith("--") and word.endswith("=")):
            raise ValueError(f"{word.rstrip('=') or flag or name} is empty; give a value, or leave it out")
    parser = CommandParser(prog=name, description=(command.__doc__ or "").splitlines()[0], exit_on_error=False)
    parser.add_command(command)
    command(**parser.instantiate(parser.parse_args(arguments)).as_dict())


def _train(arguments: list[str]) -> None:
    from lightning_fabric.utilities.exceptions import MisconfigurationException

    from recon.training.command import TrainingCLI
    from recon.training.trainer import Trainer
    from recon.training.usage import FULL as FULL_HELP
    from recon.training.usage import short_help

    for known in (
        ".*LeafSpec.* is deprecated",  # Lightning's own use of torch
        "Checkpoint directory .* exists and is not empty",  # the run's own, in which its configuration is
        "Be aware that when using `ckpt_path`, callbacks",  # evaluation needs none
    ):
        warnings.filterwarnings("ignore", message=known)
    if {"-h", "--help"} & set(arguments):
        print(short_help(arguments[0], str(getattr(Trainer, arguments[0]).__doc__).splitlines()[0]), end="")
        return
    try:
        TrainingCLI(args=["--help" if word == FULL_HELP else word for word in arguments])
    except MisconfigurationException as error:
        raise ValueError(str(error)) from error


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
