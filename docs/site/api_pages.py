"""One page of reference for each package of Recon: the names in its ``__all__``."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[2]


def on_config(config: Any) -> Any:
    """Name the pages in the navigation."""
    (section,) = [section for section in config.nav if "API" in section]
    section["API"] += [f"api/{package}.md" for package, tree in _folders() if _public(tree)]
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the pages."""
    files.append(File.generated(config, "api/recon.md", content=_overview()))
    for package, tree in _folders():
        if names := _public(tree):
            files.append(File.generated(config, f"api/{package}.md", content=_page(package, tree, names)))
    return files


def _folders() -> Iterator[tuple[str, ast.Module]]:
    """The folders of the package, parsed: importing them would take longer than the whole site."""
    for path in sorted(ROOT.glob("recon/*/__init__.py")):
        yield f"recon.{path.parent.name}", ast.parse(path.read_text())


def _public(tree: ast.Module) -> list[str]:
    """The names in ``__all__``, constants last."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            names = ast.literal_eval(node.value)
            return sorted(names, key=lambda name: "_" in name and name.isupper())
    return []


def _overview() -> str:
    """The page of ``recon`` itself, whose names are those of its folders."""
    tree = ast.parse((ROOT / "recon" / "__init__.py").read_text())
    names = [name for name in _public(tree) if not name.startswith("_")]
    rows = [f"| [`recon.{name}`][recon.{name}] | {_about(name, tree)} |" for name in names]
    folders = [f"| [`{folder}`]({folder}.md) | {_sentence(tree)} |" for folder, tree in _folders() if _public(tree)]
    return "\n".join(
        [
            "# recon",
            "",
            "The names that a training loop needs:",
            "",
            "| name | |",
            "| --- | --- |",
            *rows,
            "",
            "The folders:",
            "",
            "| folder | |",
            "| --- | --- |",
            *folders,
            "",
        ]
    )


def _page(package: str, tree: ast.Module, names: list[str]) -> str:
    rows = [f"| [`{name}`][{_path(package, name)}] | {_about(name, tree)} |" for name in names]
    entries = "\n\n".join(f"::: {_path(package, name)}" for name in names)
    return "\n".join(
        [f"# {package}", "", f"{_sentence(tree)}.", "", "| name | |", "| --- | --- |", *rows, "", entries, ""]
    )


def _about(name: str, tree: ast.Module) -> str:
    """The first line of the docstring of a class or function that a file has, or hands on."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            line = (ast.get_docstring(node) or "").partition("\n")[0]
            return re.sub(r":\w+:`~?([^`]+)`", r"`\1`", line).replace("``", "`").replace("|", "\\|")
        if isinstance(node, ast.ImportFrom) and name in {alias.name for alias in node.names}:
            source = _source(node.module)
            return _about(name, source) if source else ""
    return ""


@cache
def _source(module: str | None) -> ast.Module | None:
    """A module of Recon, parsed."""
    path = ROOT.joinpath(*(module or "").split("."))
    files = [path.with_suffix(".py"), path / "__init__.py"]
    read = [file.read_text() for file in files if module and file.exists()]
    return ast.parse(read[0]) if read else None


def _path(package: str, name: str) -> str:
    """The full name; that of a function in a module of its own name, too."""
    module = ROOT.joinpath(*package.split("."), f"{name}.py")
    return f"{package}.{name}.{name}" if module.exists() else f"{package}.{name}"


def _sentence(tree: ast.Module) -> str:
    """The first sentence of a folder's docstring."""
    paragraph = " ".join((ast.get_docstring(tree) or "").split("\n\n")[0].split())
    return paragraph.replace("``", "`").rstrip(".")
