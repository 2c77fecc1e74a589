"""Old places of modules and classes: they lead to the new ones, with a warning, until 0.2.

The places are those that users may hold: in imports, or as class paths in a YAML. Modules of the
inner parts of branching, engine and command line have none.
"""

import sys
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from multiprocessing import parent_process
from pkgutil import resolve_name
from types import ModuleType
from typing import Any

MODULES = {
    "recon.closures": ("recon.engine.closures",),
    "recon.conflict.selection": ("recon.conflict.controls", "recon.conflict.ranking"),
    "recon.data.augmentation": ("recon.data.dense.augmentation",),
    "recon.data.cityscapes": ("recon.data.dense.cityscapes",),
    "recon.data.glyphs": ("recon.data.composites.glyphs",),
    "recon.data.idx": ("recon.data.composites.idx",),
    "recon.data.layout": ("recon.data.dense.layout",),
    "recon.data.multi_fashion_mnist": ("recon.data.composites.multi_fashion_mnist",),
    "recon.data.nyuv2": ("recon.data.dense.nyuv2",),
    "recon.data.quantities": ("recon.data.dense.quantities",),
    "recon.data.scenes": ("recon.data.rooms.module",),
    "recon.experiments.execution": ("recon.experiments.run", "recon.experiments.preflight"),
    "recon.experiments.figures": ("recon.experiments.report.figures",),
    "recon.experiments.pictures": ("recon.experiments.report.predictions",),
    "recon.experiments.runner": ("recon.experiments.launch", "recon.experiments.executors.executor"),
    "recon.experiments.summary": ("recon.experiments.report.summary", "recon.experiments.report.delta_m"),
    "recon.experiments.tables": ("recon.experiments.report.table",),
    "recon.graph": ("recon.gradients.graph",),
    "recon.losses": ("recon.tasks.losses",),
    "recon.methods.adapters": ("recon.methods.torchjd.adapters",),
    "recon.methods.checks": ("recon.methods.base.checks", "recon.methods.base.hyperparameters"),
    "recon.methods.config": ("recon.methods.conflict_free",),
    "recon.methods.dual_cone": ("recon.methods.solvers.dual_cone",),
    "recon.methods.fairness": ("recon.methods.solvers.fairness",),
    "recon.methods.gramian": ("recon.methods.solvers.gramian",),
    "recon.methods.interop": ("recon.methods.torchjd.interop",),
    "recon.methods.method": (
        "recon.methods.base.method",
        "recon.methods.base.kinds",
        "recon.methods.base.state",
        "recon.methods.base.randomness",
    ),
    "recon.methods.page": ("recon.methods.catalogue.page",),
    "recon.methods.per_task": ("recon.methods.base.per_task",),
    "recon.methods.preference": ("recon.methods.base.preference",),
    "recon.methods.properties": ("recon.methods.catalogue.properties",),
    "recon.methods.registry": ("recon.methods.base.registry",),
    "recon.methods.simplex": ("recon.methods.solvers.simplex", "recon.methods.base.learned_weights"),
    "recon.methods.wrapper": ("recon.methods.base.wrapper",),
    "recon.metrics": ("recon.tasks.metrics", "recon.tasks.per_batch"),
    "recon.models.dilated_resnet": ("recon.models.backbones.dilated_resnet",),
    "recon.models.image_input": ("recon.models.backbones.image_input",),
    "recon.models.lenet": ("recon.models.backbones.lenet",),
    "recon.models.mtan": ("recon.models.architectures.mtan",),
    "recon.models.resnet": ("recon.models.backbones.resnet",),
    "recon.models.segnet": ("recon.models.backbones.segnet",),
    "recon.names": ("recon.errors", "recon.plugins", "recon.tasks.names", "recon.files.folder_names"),
    "recon.painting": ("recon.tasks.colours",),
    "recon.representation": ("recon.engine.checks", "recon.engine.routes.head_backwards"),
    "recon.step_info": ("recon.engine.step_info",),
    "recon.toy": ("recon.experiments.toy",),
    "recon.training.branching": ("recon.training.branch_options",),
    "recon.training.configuration": ("recon.training.command",),
    "recon.wrappers": ("recon.gradients.wrappers",),
}
"""Old module -> the modules that now hold its public names."""

NAMES: dict[str, str] = {
    "recon.data.Scenes": "recon.data.Rooms",
    "recon.data.layout.SceneFolder": "recon.data.dense.layout.DenseFolder",
    "recon.data.scenes.Scenes": "recon.data.Rooms",
    "recon.methods.gramian.nearest_on_simplex": "recon.methods.solvers.simplex.nearest_on_simplex",
    "recon.methods.simplex.nearest_on_simplex": "recon.methods.solvers.simplex.nearest_on_simplex_on_device",
    "recon.training.Branching": "recon.training.BranchOptions",
    "recon.training.branching.Branching": "recon.training.BranchOptions",
    "recon.training.branching.branched": "recon.training.branch_options.network_for",
}
"""Old name of a class or function, with its package or old module -> the new one."""


def renamed(package: str) -> Callable[[str], Any]:
    """The ``__getattr__`` of a package with old names: of :data:`NAMES`, or modules of it."""

    def old_name(name: str) -> Any:
        old = f"{package}.{name}"
        if old in MODULES:
            return import_module(old)
        if old not in NAMES:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        _warn(old, NAMES[old])
        return resolve_name(NAMES[old])

    return old_name


class OldPlaces(MetaPathFinder, Loader):
    """Finds a module at its old place when there is none of that name any more."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if fullname in MODULES else None

    def exec_module(self, module: ModuleType) -> None:
        old = module.__name__
        places = MODULES[old]
        _warn(old, places[0])

        def found(name: str) -> Any:
            if (path := f"{old}.{name}") in NAMES:
                _warn(path, NAMES[path])
                return resolve_name(NAMES[path])
            for place in places:
                if hasattr(new := import_module(place), name):
                    return getattr(new, name)
            raise AttributeError(f"module {old!r} is now {' and '.join(places)}, which have no {name!r}")

        module.__getattr__ = found  # type: ignore[method-assign]


def with_new_names(configuration: Any) -> Any:
    """The configuration with the new names of classes: either name compares equal then.

    >>> with_new_names({"data": {"class_path": "recon.data.Scenes"}})
    {'data': {'class_path': 'recon.data.Rooms'}}
    """
    if isinstance(configuration, dict):
        return {key: with_new_names(value) for key, value in configuration.items()}
    if isinstance(configuration, list):
        return [with_new_names(value) for value in configuration]
    return _new_name(configuration) if isinstance(configuration, str) else configuration


def _new_name(text: str) -> str:
    """The new name of a class path; any other text itself."""
    module, _, name = text.rpartition(".")
    places = MODULES.get(module, ())
    return NAMES.get(text, f"{places[0]}.{name}" if len(places) == 1 else text)


def keep_old_places() -> None:
    """Let old places be imported in this process."""
    if not any(isinstance(finder, OldPlaces) for finder in sys.meta_path):
        sys.meta_path.append(OldPlaces())


_told: set[str] = set()


def _warn(old: str, new: str) -> None:
    """Tell of an old name once, and not again in the workers that this process starts."""
    if old in _told or parent_process() is not None:
        return
    _told.add(old)
    # A FutureWarning is shown to everyone, also to those who name a class in a YAML.
    warnings.warn(f"{old} is now {new}; the old name goes in version 0.2", FutureWarning, stacklevel=3)
