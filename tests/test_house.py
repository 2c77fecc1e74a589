"""The structure of the package, as CONTRIBUTING.md draws it: rooms, floors, and imports that only lead down."""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from itertools import chain
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "recon"
SOURCES = sorted(PACKAGE.rglob("*.py"))
TREES = {path: ast.parse(path.read_text()) for path in SOURCES}

FLOORS = (
    {"version", "errors", "files", "moved", "notebooks", "plugins", "progress"},
    {"configuration", "gradients", "launching", "tasks"},
    {"methods", "branching", "plot"},
    {"conflict"},
    {"engine", "models", "data"},
    {"training"},
    {"experiments"},
    {"cli"},
    {"__init__", "__main__"},
)
"""Folders and loose files of the package from the ground up; a floor uses those below it."""

# It comes before everything else is imported, so the package's own file imports it.
BEFORE_IMPORTS = "recon.cli.startup"


def module(path: Path) -> str:
    """The name of a module; a folder's own file is called ``FOLDER.__init__``."""
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)


MODULES = {module(path) for path in SOURCES}


def imports(path: Path) -> Iterator[str]:
    """The modules of the package that a file imports, in functions too."""
    for node in ast.walk(TREES[path]):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            candidates = (name, f"{name}.__init__", name.rpartition(".")[0], f"{name.rpartition('.')[0]}.__init__")
            yield from [candidate for candidate in candidates if candidate in MODULES][:1]


def floor(name: str) -> int:
    room = name.split(".")[1]
    (found,) = [number for number, rooms in enumerate(FLOORS) if room in rooms]
    return found


def test_every_room_has_one_floor() -> None:
    rooms = {path.stem if path.suffix == ".py" else path.name for path in PACKAGE.iterdir() if path.suffix != ".typed"}
    assert rooms - {"__pycache__"} == set(chain(*FLOORS))
    assert sum(map(len, FLOORS)) == len(set(chain(*FLOORS)))


def test_imports_lead_down() -> None:
    arrows = [(module(path), name) for path in SOURCES for name in imports(path) if name != BEFORE_IMPORTS]
    between_rooms = [(own, name) for own, name in arrows if own.split(".")[1] != name.split(".")[1]]
    assert len(between_rooms) > 300
    assert not [f"{own} imports {name}" for own, name in between_rooms if floor(own) <= floor(name)]


def test_no_file_imports_itself_by_way_of_others() -> None:
    # A folder's own file hands on names of the folder; whoever imports it means these.
    graph = {module(path): set(imports(path)) - {module(path)} for path in SOURCES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_few_files_are_loose() -> None:
    assert len(list(PACKAGE.glob("*.py"))) <= 8


def test_classes_are_short_enough_to_see() -> None:
    classes = [node for tree in TREES.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    assert not [node.name for node in classes if (node.end_lineno or 0) - node.lineno >= 200]


def test_a_folder_says_what_lives_there_and_what_it_may_import() -> None:
    texts = {path.parent.name: ast.get_docstring(tree) for path, tree in TREES.items() if path.stem == "__init__"}
    assert not [folder for folder, text in texts.items() if not text or "import" not in text.lower()]


def test_contributing_shows_every_folder() -> None:
    page = (PACKAGE.parent / "CONTRIBUTING.md").read_text()
    for folder in (path for path in PACKAGE.rglob("*") if path.is_dir() and (path / "__init__.py").exists()):
        assert f"{folder.name}/" in page, folder
