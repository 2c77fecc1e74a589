"""The documentation site, which `make docs` builds, has every page of docs/."""

from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
CONFIGURATION = yaml.safe_load((ROOT / "docs" / "site" / "mkdocs.yml").read_text())


def in_navigation(entry: Any = CONFIGURATION["nav"]) -> Iterator[str]:
    """The pages of the navigation, top down."""
    if isinstance(entry, str):
        yield entry
    for child in entry.values() if isinstance(entry, dict) else entry if isinstance(entry, list) else ():
        yield from in_navigation(child)


def test_every_page_of_docs_is_in_the_navigation() -> None:
    apart = [line.split("#")[0].strip().lstrip("/") for line in CONFIGURATION["not_in_nav"].splitlines()]
    pages = {page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md")}
    pages = {page for page in pages if not any(fnmatch(page, pattern) for pattern in apart)}
    assert pages - set(in_navigation()) == set(), "name these pages under `nav` in docs/site/mkdocs.yml"
