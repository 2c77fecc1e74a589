"""The canonical form of a configuration of ``recon fit``: equal for runs that are the same.

It leaves out values that are defaults anyway, so that a default may be written out or not, and a
new key with a default changes nothing. Whole numbers have one form, 1 for 1.0.
"""

import inspect
import json
from argparse import ArgumentError
from collections.abc import Mapping
from functools import cache
from pydoc import locate
from typing import Any

import pytorch_lightning as pl
from jsonargparse import ArgumentParser

from recon.methods import create_method
from recon.methods.base.registry import method_name
from recon.moved import with_new_names
from recon.training import MultiTaskModule
from recon.training.branch_options import BranchOptions

TRAINER = {"devices": 1, "limit_val_batches": 0}
"""Values of the trainer unless a plan has others. Nothing is selected, so nothing is validated."""

SET_IN_TRAINER = (
    "default_root_dir",
    "logger",
    "callbacks",
    "plugins",
    "enable_progress_bar",
    "enable_model_summary",
    "num_sanity_val_steps",
)
"""Keys of ``trainer`` that a benchmark sets for every run, whatever a plan says."""

OF_LOGS = ("log_every_n_steps",)
"""Keys of ``trainer`` that change what is told of a training, and nothing of its result."""

OF_THE_MACHINE = ("root", "num_workers")
"""Arguments of data modules that change no batch: where the files are, and how many read them."""


def canonical(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """The canonical form of a configuration, without the folder of its data and their readers.

    >>> trainer = {"max_epochs": 2, "limit_train_batches": None}
    >>> backbone = {"class_path": "recon.models.LeNet", "init_args": {"width": 10}}
    >>> data = {"class_path": "recon.data.Glyphs", "init_args": {"root": "here", "seed": 0}}
    >>> form = canonical({"trainer": trainer, "model": {"backbone": backbone}, "data": data})
    >>> form["trainer"], form["data"]
    ({'max_epochs': 2}, {'class_path': 'recon.data.Glyphs'})

    Args:
        configuration: The configuration of a run.
    """
    sections = with_new_names(json.loads(json.dumps(configuration)))
    return {
        **_plain(sections),
        "trainer": canonical_trainer(sections["trainer"]),
        "model": _model(sections["model"]),
        "data": canonical_data(sections["data"]),
    }


def canonical_trainer(values: Mapping[str, Any]) -> dict[str, Any]:
    """The canonical form of the section ``trainer``; that of a canonical form is the same.

    >>> canonical_trainer({"max_epochs": 2, "devices": 1, "log_every_n_steps": 10})
    {'max_epochs': 2}

    Args:
        values: The section.
    """
    given = {key: value for key, value in values.items() if key not in (*SET_IN_TRAINER, *OF_LOGS)}
    return _without({**TRAINER, **given}, {**_arguments(pl.Trainer), **TRAINER})


def canonical_data(values: Mapping[str, Any]) -> dict[str, Any]:
    """The canonical form of the section ``data``; that of a canonical form is the same.

    >>> canonical_data({"class_path": "recon.data.Rooms", "init_args": {"num_workers": 4}})
    {'class_path': 'recon.data.Rooms'}

    Args:
        values: The section.
    """
    arguments = {key: value for key, value in (values.get("init_args") or {}).items() if key not in OF_THE_MACHINE}
    section: dict[str, Any] = _plain({**values, "init_args": arguments})
    return section


def _model(values: Mapping[str, Any]) -> dict[str, Any]:
    """The section ``model``; its nested parts have defaults of their own."""
    values = dict(values)
    for key in ("backbone", "optimizer", "scheduler"):
        if isinstance(values.get(key), str):
            values[key] = {"class_path": values[key]}
    if isinstance(values.get("branch"), dict):
        values["branch"] = _without(values["branch"], _arguments(BranchOptions))
    method = values.get("method", "joint")
    if isinstance(method, str):
        values["method"] = _registered(method)
        options = _without(values.pop("method_options", None) or {}, _defaults_of_method(method))
        values |= {"method_options": options} if options else {}
    return _without(values, _arguments(MultiTaskModule))


def _plain(value: Any) -> Any:
    """A value of JSON, its classes without arguments that are defaults."""
    if isinstance(value, dict) and isinstance(value.get("class_path"), str):
        arguments = _without(value.get("init_args") or {}, _defaults_of_class(value["class_path"]))
        others = {key: _plain(part) for key, part in value.items() if key != "init_args"}
        return {**others, **({"init_args": arguments} if arguments else {})}
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_plain(part) for part in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _without(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The values that are not the defaults."""
    plain = {key: _plain(value) for key, value in values.items()}
    return {key: value for key, value in plain.items() if key not in defaults or _text(value) != _text(defaults[key])}


def _text(value: Any) -> str:
    """A text that is the same for the same value; defaults may be no JSON."""
    return json.dumps(_plain(json.loads(json.dumps(value, default=repr))), sort_keys=True)


def _arguments(cls: type) -> dict[str, Any]:
    """The defaults of a class by its own signature."""
    parameters = inspect.signature(cls).parameters.values()
    return {each.name: each.default for each in parameters if each.default is not each.empty}


def _registered(method: str) -> str:
    try:
        return method_name(method)
    except ValueError:  # of a module that is not imported any more
        return method


def _defaults_of_method(method: str) -> dict[str, Any]:
    try:
        return _arguments(type(create_method(method)))
    except (TypeError, ValueError):  # it needs hyperparameters, or is not there
        return {}


@cache
def _defaults_of_class(path: str) -> dict[str, Any]:
    """The defaults of a class by its path, those that it passes on to others included."""
    found = locate(path)
    if not inspect.isclass(found):
        return {}
    parser = ArgumentParser(exit_on_error=False)
    try:
        parser.add_class_arguments(found, "object")
        return dict(vars(parser.get_defaults().get("object") or parser.get_defaults()))
    except (ArgumentError, TypeError, ValueError):
        return {}
