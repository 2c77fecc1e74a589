"""The command ``recon``."""

import os
import sys
import warnings
from argparse import ArgumentError
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Any

from jsonargparse import auto_cli

from recon.conflict import ConflictMap, compare, describe
from recon.conflict.reading import read_object
from recon.names import unknown_name
from recon.parser import Parser

USAGE = """\
usage: recon [--import MODULE] COMMAND ...

  demo                      the whole pipeline on built-in data, in minutes; writes ./recon-demo unless --out
  fit|validate|test|search  one run from a YAML (--config FILE); search writes a conflict map
  benchmark PLAN            methods x (plain, +Recon, controls) x seeds -> tables and figures; resumable
  map show|compare          conflict maps as tables

recon COMMAND --help tells more. --import MODULE imports a module of yours first; it may register methods.
"""

DEFAULT_SEVERITY = -0.1
"""Severity S at which maps are shown and compared unless one is asked for."""

TRAINING = ("fit", "validate", "test", "search")


def demo(out: Path = Path("recon-demo"), jobs: int | None = None) -> None:
    """Train on built-in images: single-task, joint, joint + Recon and a random control.

    Args:
        out: Folder of the results.
        jobs: Runs at a time; by default one on an accelerator, otherwise one a core, at most four.
    """
    benchmark(Path(str(files("recon.experiments") / "demo.yaml")), out=out, jobs=jobs)


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


def show(path: Path, severity: float | None = None) -> None:
    """Print a conflict map as a table, the worst layer first.

    Args:
        path: File of a conflict map, or a published {layer: score} file.
        severity: Severity S of the scores; for a published file the one it was made at. By default that of an imported
            map, and -0.1 otherwise.
    """
    conflict_map = _load_map(path, severity)
    print(describe(conflict_map, _severity(severity, conflict_map)))


def compare_maps(first: Path, second: Path, severity: float | None = None, top: int = 25) -> None:
    """Print how far two conflict maps agree: rank correlation, and what their top layers share.

    Args:
        first: File of a conflict map, or a published {layer: score} file.
        second: Another.
        severity: Severity S of the scores; for a published file the one it was made at. By default that of an imported
            map, and -0.1 otherwise.
        top: How many top layers of each to compare.
    """
    maps = _load_map(first, severity), _load_map(second, severity)
    print(compare(*maps, _severity(severity, *maps), top))


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the command ``recon``; bad input ends it with a plain message and status 1."""
    try:
        _run(_take_imports(list(sys.argv[1:] if arguments is None else arguments)))
    except KeyboardInterrupt:
        sys.exit("recon: interrupted; the same command goes on from the last finished epoch")
    except BrokenPipeError:  # somebody closed our output, as in `recon map show FILE | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (ArgumentError, ValueError, TypeError, RuntimeError, OSError) as error:
        if "RECON_TRACEBACK" in os.environ:
            raise
        sys.exit(f"recon: {error}\n(RECON_TRACEBACK=1 shows where)")


_imported: list[str] = []  # modules named by --import, which worker processes import too


def _take_imports(arguments: list[str]) -> list[str]:
    """Import what ``--import`` names; the other arguments are returned."""
    sys.path.insert(0, os.getcwd())
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
    try:
        import_module(name)
    except (ModuleNotFoundError, ValueError) as error:
        raise ValueError(f"cannot import {name!r} ({error}); give a module's name, as after Python's import") from error
    _imported.append(name)


def _run(arguments: list[str]) -> None:
    commands: dict[str, Any] = {"demo": demo, "benchmark": benchmark, "map": {"show": show, "compare": compare_maps}}
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(USAGE, end="")
    elif arguments[0] in TRAINING:
        _train(arguments)
    elif arguments[0] in commands:
        auto_cli(commands, args=arguments, parser_class=Parser, exit_on_error=False, prog="recon")
    else:
        raise unknown_name("command", arguments[0], [*commands, *TRAINING])


def _train(arguments: list[str]) -> None:
    from lightning_fabric.utilities.exceptions import MisconfigurationException

    from recon.training.configuration import TrainingCLI

    # Lightning's own use of torch; nothing that a user could mend.
    warnings.filterwarnings("ignore", message=".*LeafSpec.* is deprecated")
    try:
        TrainingCLI(args=arguments)
    except MisconfigurationException as error:
        raise ValueError(str(error)) from error


def _load_map(path: Path, severity: float | None) -> ConflictMap:
    """A conflict map, or a published file, which has no ``format`` and does not know its own severity."""
    if "format" in read_object(path):
        return ConflictMap.load(path)
    return ConflictMap.import_scores(path, DEFAULT_SEVERITY if severity is None else severity)


def _severity(asked: float | None, *maps: ConflictMap) -> float:
    """The severity asked for, else the one that an imported map knows, else the default."""
    known = [conflict_map.severity for conflict_map in maps]
    return next((severity for severity in (asked, *known) if severity is not None), DEFAULT_SEVERITY)
