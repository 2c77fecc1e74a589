"""What shtab's script for zsh needs before it completes ``recon``."""

import re
from argparse import ArgumentParser, _SubParsersAction
from collections.abc import Collection, Iterator
from functools import partial

_OF_A_COMMAND = re.compile(r" +([\w-]+)(?::'|\) _)")


def for_zsh(script: str, parser: ArgumentParser) -> str:
    """The script with two faults of shtab 1.13 mended.

    ``source <(recon completion zsh)`` completes at once, where zsh would call the function outside
    of a completion; and a group of commands offers its own commands, without those of groups in it.

    Args:
        script: The script that shtab wrote.
        parser: The parser that it was written for, whose program is ``recon``.
    """
    script = script.replace("[[ $zsh_eval_context[-1] == eval ]]", f"[[ $funcstack[1] != _{parser.prog} ]]")
    for function, commands in _groups(parser, f"_shtab_{parser.prog}"):
        body = re.compile(rf"^{function}(_commands)?\(\) \{{.*?^\}}", re.MULTILINE | re.DOTALL)
        script = body.sub(partial(_with_commands, commands), script)
    return script


def _groups(parser: ArgumentParser, function: str) -> Iterator[tuple[str, Collection[str]]]:
    """The functions that complete groups of commands, and the commands of each."""
    for action in parser._actions:
        if isinstance(action, _SubParsersAction):
            yield function, action.choices
            for command, inner in action.choices.items():
                yield from _groups(inner, f"{function}_{command}")


def _with_commands(commands: Collection[str], function: re.Match[str]) -> str:
    """A function without the lines of other commands."""
    lines = ((line, _OF_A_COMMAND.match(line)) for line in function[0].splitlines())
    return "\n".join(line for line, found in lines if found is None or found[1] in commands)
