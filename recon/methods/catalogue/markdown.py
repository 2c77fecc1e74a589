"""What docstrings and signatures say, as Markdown for pages made from the code."""

import inspect
import re
from collections.abc import Callable, Sequence
from textwrap import fill
from typing import Any

WIDTH = 100
"""Columns of text on a page."""


def plain(text: str) -> str:
    """A docstring's text with its code and its references to Python objects as Markdown has them.

    >>> plain("The loss is :func:`recon.tasks.losses.masked_l1` of ``target``.")
    'The loss is `recon.tasks.losses.masked_l1` of `target`.'
    """
    return re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text).replace("``", "`")


def defaults(make: Callable[..., Any]) -> dict[str, str]:
    """Argument -> its default as text, empty if there is none.

    >>> def scaled(value, by: float = 2.0): ...
    >>> defaults(scaled)
    {'value': '', 'by': '2'}
    """
    return {name: _shown(parameter.default) for name, parameter in inspect.signature(make).parameters.items()}


def described(documented: object) -> dict[str, str]:
    """Argument -> its description in the section ``Args`` of a docstring.

    >>> described(described)
    {'documented': 'A class or function.'}

    Args:
        documented: A class or function.
    """
    section = re.search(r"^Args:\n((?: {4}.*\n?|\n)+)", inspect.getdoc(documented) or "", flags=re.MULTILINE)
    if not section:
        return {}
    entries = re.findall(r"^ {4}(\w+): ((?:.+\n?)(?: {8}.+\n?)*)", section[1] + "\n", flags=re.MULTILINE)
    return {name: plain(" ".join(text.split())) for name, text in entries}


def item(text: str) -> str:
    """A point of a list, in lines of the page's width.

    >>> print(item("one point"), end="")
    * one point
    """
    return fill(text, WIDTH, initial_indent="* ", subsequent_indent="  ", break_on_hyphens=False) + "\n"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    r"""A table in Markdown; bars in cells are escaped.

    >>> print(table(["", "yes"], [["a|b", "✓"]]), end="")
    |  | yes |
    | --- | --- |
    | a\|b | ✓ |
    """
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def _shown(default: object) -> str:
    if default is inspect.Parameter.empty:
        return ""
    return f"{default:g}" if isinstance(default, float) else repr(default)
