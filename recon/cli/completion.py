"""The command ``recon completion``: scripts by which shells complete commands and options."""

import inspect
from argparse import ArgumentParser
from collections.abc import Callable
from contextlib import suppress
from pkgutil import resolve_name
from typing import Any, Literal, get_args, get_origin

from recon.cli.listing import Kind, names_of
from recon.cli.zsh import for_zsh
from recon.configuration import CommandParser
from recon.errors import unknown_name
from recon.plugins import needs

_SHELLS = ("bash", "zsh")


def completion(shell: str) -> None:
    """Print a script by which a shell completes commands, options, methods and files.

    Args:
        shell: The shell, bash or zsh.
    """
    if shell not in _SHELLS:
        raise unknown_name("shell", shell, _SHELLS)
    with needs("shtab", extra="completion"):
        import shtab
    parser = _whole(shtab.FILE)
    script = shtab.complete(parser, shell)
    print(for_zsh(script, parser) if shell == "zsh" else script)


def _whole(file: dict[str, Any]) -> ArgumentParser:
    """A parser of all commands, for its words only.

    Args:
        file: How shtab writes that a value is a file.
    """
    from recon.cli.commands import COMMANDS

    whole = ArgumentParser("recon")
    whole.add_argument("--version", action="store_true", help="print the version")
    whole.add_argument("--import", metavar="MODULE", help="import a module of yours first")
    groups = {"": whole.add_subparsers()}
    for command, path in COMMANDS.items():
        group, _, word = command.rpartition(" ")
        function = resolve_name(path)
        for depth in range(len(group.split())):
            above, name = " ".join(group.split()[:depth]), " ".join(group.split()[: depth + 1])
            if name not in groups:
                groups[name] = groups[above].add_parser(group.split()[depth], help=f"recon {name}").add_subparsers()
        what = (function.__doc__ or "").splitlines()[0].replace("%", "%%")
        _take_arguments(groups[group].add_parser(word, help=what, add_help=False), function, file)
    for command, parser in _training().items():
        _take_options(groups[""].add_parser(command, help=f"recon {command}"), parser, file)
    return whole


def _take_arguments(parser: ArgumentParser, function: Callable[..., Any], file: dict[str, Any]) -> None:
    """Give a parser the arguments of a function."""
    own = CommandParser(exit_on_error=False)
    own.add_command(function)
    annotations = {name: one.annotation for name, one in inspect.signature(function).parameters.items()}
    for action in own._actions:
        if action.dest == "print_shtab":
            continue
        if "Path" in str(annotations.get(action.dest)):
            action.complete = file  # type: ignore[attr-defined]
        elif get_origin(annotations.get(action.dest)) is Literal:
            action.choices = get_args(annotations[action.dest])
        elif action.dest == "kind":
            action.choices = get_args(Kind)
        elif action.dest == "shell":
            action.choices = _SHELLS
        action.help = (action.help or "").replace("%", "%%")
        parser._add_action(action)


def _take_options(parser: ArgumentParser, training: ArgumentParser, file: dict[str, Any]) -> None:
    """Give a parser the options of a training command, with names for what has some."""
    names = {"model.method": "methods", "model.backbone": "backbones", "data": "data"}
    for action in training._actions:
        options = [option for option in action.option_strings if not option.startswith("--print_shtab")]
        if not options or action.dest == "help":
            continue
        added = parser.add_argument(*options, help="", action="store_true" if action.nargs == 0 else "store")
        if action.dest in names:
            added.choices = list(names_of(names[action.dest]))
        elif action.dest in ("config", "ckpt_path") or action.dest.endswith("_path"):
            added.complete = file  # type: ignore[attr-defined]


def _training() -> dict[str, ArgumentParser]:
    """The parsers of the training commands."""
    from recon.training.command import COMMANDS, TrainingCLI

    found: dict[str, ArgumentParser] = {}

    class Reader(TrainingCLI):
        """Reads the parsers, and builds nothing."""

        def parse_arguments(self, parser: Any, args: Any) -> None:
            found.update({command: self._parser(command) for command in COMMANDS})
            raise InterruptedError

    with suppress(InterruptedError):
        Reader(args=["fit"])
    return found
