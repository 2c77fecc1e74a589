"""The command ``recon``: words become a call, and an error becomes one line."""

import os
import sys
from collections.abc import Callable, Sequence
from pkgutil import resolve_name

from recon.cli.commands import COMMANDS, TRAINING, USAGE, WITH_CLASSES
from recon.cli.imports import take_imports
from recon.cli.startup import listen_to_interrupts, tell_version
from recon.cli.train import train
from recon.cli.working_folder import append_working_folder_for
from recon.configuration import CommandParser
from recon.errors import in_one_line, unknown_name

_HELP = ("-h", "--help", "help")


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the command ``recon``; bad input ends it with a plain message and status 1."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    listen_to_interrupts()
    try:
        _run(take_imports(words))
    except KeyboardInterrupt as interrupt:
        print(f"recon: interrupted{_how_to_go_on(words, str(interrupt))}", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # the reader has left, as in `recon map show FILE | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:
        if "RECON_TRACEBACK" in os.environ:
            raise
        if "LOCAL_RANK" in os.environ:  # this is one of several processes, as torchrun starts them
            from recon.launching.ends import let_another_tell

            let_another_tell(error)
        sys.exit(f"recon: {in_one_line(error)}\n(RECON_TRACEBACK=1 shows where)")


def _how_to_go_on(words: list[str], how: str) -> str:
    """How to resume an interrupted command; ``how`` is the command's own account."""
    resumes = any(words[: len(command)] == command for command in (["benchmark"], ["demo"], ["data", "prepare"]))
    how = how or ("the same command goes on from what is finished" if resumes else "")
    return f"; {how}" if how else ""


def _run(arguments: list[str]) -> None:
    if any(tuple(arguments[: len(command)]) == command for command in WITH_CLASSES):
        append_working_folder_for(arguments)
    if not arguments or arguments[0] in _HELP:
        print(USAGE, end="")
    elif arguments == ["--version"]:
        tell_version()
    elif arguments[0] in TRAINING:
        train(arguments)
    else:
        words = _command_words(arguments)
        if words in COMMANDS:
            _call(resolve_name(COMMANDS[words]), f"recon {words}", arguments[len(words.split()) :])
        else:
            _list_commands(words)


def _command_words(arguments: list[str]) -> str:
    """The words that name a command, or a group of commands followed by nothing or by help."""
    words: list[str] = []
    for word in arguments:
        known = [name.split() for name in COMMANDS if name.split()[: len(words)] == words]
        if " ".join(words) in COMMANDS or (words and word in _HELP):
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
            print(f"  {name.removeprefix(group + ' '):<23} {resolve_name(command).__doc__.splitlines()[0]}")


def _call(command: Callable[..., None], name: str, arguments: list[str]) -> None:
    """Parse the arguments by the command's signature, and call it."""
    for flag, word in zip(["", *arguments], arguments, strict=False):
        if not word or (word.startswith("--") and word.endswith("=")):
            raise ValueError(f"{word.rstrip('=') or flag or name} is empty; give a value, or leave it out")
    parser = CommandParser(prog=name, description=(command.__doc__ or "").splitlines()[0], exit_on_error=False)
    parser.add_command(command)
    parser.call(command, arguments)
