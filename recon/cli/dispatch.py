"""The command ``recon``: from words to the function of a command, and from its errors to one line."""

import os
import sys
import warnings
from argparse import ArgumentError
from collections.abc import Callable, Sequence
from pkgutil import resolve_name

from recon.cli.imports import take_imports
from recon.cli.startup import listen_to_interrupts
from recon.cli.working_folder import append_working_folder_for
from recon.configuration import CommandParser
from recon.errors import unknown_name

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


COMMANDS = {
    "demo": "recon.cli.commands:demo",
    "benchmark": "recon.cli.commands:benchmark",
    "toy": "recon.cli.commands:toy",
    "map show": "recon.cli.commands:show",
    "map compare": "recon.cli.commands:compare_maps",
    "map apply": "recon.cli.commands:apply",
    "map import": "recon.cli.commands:import_map",
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
        _run(take_imports(words))
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
