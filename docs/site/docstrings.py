"""Docstrings in the dialect of Python, as Markdown: references and examples."""

import re
from contextlib import suppress
from functools import partial
from itertools import groupby
from textwrap import dedent
from typing import Any

import griffe

_REFERENCE = re.compile(r":(?:attr|class|data|func|meth|mod):`(~?)([^`]+)`")


class PythonDialect(griffe.Extension):
    """Links ``:class:`Engine``` to its place in the reference and fences examples."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        for owner in _owners(pkg):
            if owner.docstring:
                text = _REFERENCE.sub(partial(_link, owner), owner.docstring.value)
                owner.docstring.value = _fenced(text)


def _owners(owner: Any) -> Any:
    """An object and all that it defines."""
    yield owner
    for member in owner.members.values():
        if not member.is_alias:
            yield from _owners(member)


def _link(owner: Any, found: re.Match[str]) -> str:
    """A link where the reference has the object, else its name."""
    shorten, name = found.groups()
    shown = f"<code>{name.rpartition('.')[2] if shorten else name}</code>"
    target = name
    with suppress(griffe.NameResolutionError):
        target = name if name.startswith("recon.") else owner.resolve(name)
    return f'<autoref identifier="{target}" optional>{shown}</autoref>'


def _fenced(text: str) -> str:
    """Put examples, the lines from ``>>>`` to the next empty one, into fences."""
    parts = []
    for filled, lines in groupby(text.splitlines(), key=lambda line: bool(line.strip())):
        block = list(lines)
        start = next((i for i, line in enumerate(block) if line.lstrip().startswith(">>>")), None)
        if filled and start is not None:
            before = ["**Example**" if line == "Example:" else line for line in block[:start]]
            block = [*before, "", "```pycon", *dedent("\n".join(block[start:])).splitlines(), "```"]
        parts += block
    return "\n".join(parts)
