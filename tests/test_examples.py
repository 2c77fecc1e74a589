"""Every public function and class shows how it is called, in an example that runs as a doctest."""

import inspect
from doctest import SKIP, DocTestParser
from importlib import import_module
from typing import Any

PACKAGES = (
    "recon",
    "recon.branching",
    "recon.conflict",
    "recon.data",
    "recon.engine",
    "recon.experiments",
    "recon.methods",
    "recon.models",
    "recon.plot",
    "recon.tasks",
    "recon.training",
)


def public_names() -> dict[str, Any]:
    """Full name -> the function or class, for every name in the ``__all__`` of a package."""
    members = {
        f"{package}.{name}": getattr(import_module(package), name)
        for package in PACKAGES
        for name in import_module(package).__all__
    }
    return {name: member for name, member in members.items() if inspect.isfunction(member) or inspect.isclass(member)}


def has_example(member: Any) -> bool:
    examples = DocTestParser().get_examples(member.__doc__ or "")
    return any(SKIP not in example.options for example in examples)


def test_every_public_name_has_an_example() -> None:
    names = public_names()
    assert len(names) > 80
    assert {name for name, member in names.items() if not has_example(member)} == set()
