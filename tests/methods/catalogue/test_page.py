"""docs/methods.md says what the methods are."""

from pathlib import Path

from recon.methods.base import registry
from recon.methods.catalogue.page import COMMAND, page

PAGE = Path(__file__).parents[3] / "docs" / "methods.md"


def test_the_committed_page_is_what_the_methods_say() -> None:
    assert PAGE.read_text() == page(), f"docs/methods.md is out of date; make it anew: {COMMAND}"


def test_every_method_has_a_section_with_its_hyperparameters_explained() -> None:
    sections = {section.split("\n", 1)[0]: section for section in page().split("\n### ")[1:]}
    assert set(sections) == {name for name, cls in registry._registered.values() if cls.__module__.startswith("recon.")}
    for name, section in sections.items():
        unexplained = [line for line in section.splitlines() if line.startswith("* `") and ": " not in line]
        assert not unexplained, f"{name}: {unexplained}"
