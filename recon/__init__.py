"""Recon: find where tasks fight inside one network, and end the fight there.

A plain PyTorch loop needs only this module. :class:`MultiTaskModule`, and Lightning with it, is
loaded on first use, as are ``recon.training``, ``recon.data`` and the other folders.

Folders import downwards: cli, experiments, training; engine, models and data; conflict; methods,
branching and plot; tasks and gradients; files.
"""

from recon.cli import startup  # noqa: F401  # before anything else is imported

# isort: split

from importlib import import_module
from typing import TYPE_CHECKING, Any

from recon.branching import TaskTree, branch
from recon.conflict import ConflictAnalyzer, ConflictMap
from recon.engine.engine import Engine
from recon.engine.one_call import backward
from recon.engine.step_info import StepInfo
from recon.engine.watching import watch
from recon.methods import (
    GramianMethod,
    JacobianMethod,
    LossMethod,
    Method,
    create_method,
    list_methods,
    register_method,
)
from recon.moved import MODULES, keep_old_places
from recon.tasks.task import Task
from recon.version import __version__

if TYPE_CHECKING:
    from recon.models import list_architectures
    from recon.training import MultiTaskModule

__all__ = [
    "ConflictAnalyzer",
    "ConflictMap",
    "Engine",
    "GramianMethod",
    "JacobianMethod",
    "LossMethod",
    "Method",
    "MultiTaskModule",
    "StepInfo",
    "Task",
    "TaskTree",
    "__version__",
    "backward",
    "branch",
    "create_method",
    "list_architectures",
    "list_methods",
    "register_method",
    "watch",
]


_SUBMODULES = (
    "branching",
    "cli",
    "conflict",
    "data",
    "experiments",
    "methods",
    "models",
    "plot",
    "tasks",
    "training",
)

keep_old_places()


def __getattr__(name: str) -> Any:
    if name == "MultiTaskModule":
        from recon.training import MultiTaskModule

        return MultiTaskModule
    if name == "list_architectures":
        from recon.models import list_architectures

        return list_architectures
    if name in _SUBMODULES or f"{__name__}.{name}" in MODULES:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module 'recon' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, *_SUBMODULES})
