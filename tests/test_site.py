"""The documentation site, which `make docs` builds, has every page of docs/."""

import runpy
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
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


def test_a_link_to_nowhere_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    there = '<h1 id="top">Title</h1><img src="data:image/png;base64,A"><a href="#top">'
    good = '<a href="other.html#top">, <a href="https://example.org/x"> and <link href="other.html">'
    bad = '<a href="gone.html"> <img src=gone.png> <a href="other.html#gone"> <a href="https://gone"> <a href="x:gone">'
    (tmp_path / "index.html").write_text(good + bad)
    (tmp_path / "other.html").write_text(there)
    runpy.run_path(str(ROOT / "docs" / "site" / "links.py"))["on_post_build"](SimpleNamespace(site_dir=tmp_path))
    assert sorted(record.getMessage().partition("index.html: ")[2] for record in caplog.records) == [
        "neither a page nor a site: x:gone",
        "no address of a site: https://gone",
        "no such file: gone.html",
        "no such file: gone.png",
        "no such heading: other.html#gone",
    ]


def test_the_drawing_of_the_idea_marks_the_layers_that_it_branches() -> None:
    script = runpy.run_path(str(ROOT / "docs" / "figures" / "idea.py"))
    _, scores, tree = script["idea"]().axes
    worst = sorted(script["RATES"], key=script["RATES"].get)[-2:]
    assert set(script["BRANCHED"]) == set(worst)
    assert [bar.get_width() for bar in scores.patches] == list(script["RATES"].values())
    assert tree.get_title().endswith("a copy per task")
