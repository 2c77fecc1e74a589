"""The ``fit`` section of a plan with the folder of its data: all that a run is built from."""

import inspect
from argparse import ArgumentError
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pydoc import locate
from typing import Any

import pytorch_lightning as pl
from lightning_fabric.utilities.exceptions import MisconfigurationException
from torch import nn

from recon.configuration import build_object, nearest_class
from recon.data.contract import tasks_of
from recon.models.contract import has_for_tasks
from recon.tasks.task import Task
from recon.training.command import TrainingCLI

SET_IN_MODEL = ("method", "method_options", "at", "granularity", "memory", "only", "branch")
"""Keys of ``model`` that every run sets."""

_SET_RUN_BY_RUN = (
    "seed_everything",
    "trainer.callbacks",
    "trainer.enable_checkpointing",
    "trainer.plugins",
    *(f"model.{key}" for key in SET_IN_MODEL),
)

_NO_RESULTS = {
    "fast_dev_run": "tries one batch, which is no result",
    "overfit_batches": "trains on a few batches, over and over; limit_train_batches takes part of the data",
    "barebones": "keeps neither checkpoints nor metrics",
    "max_time": "ends each run after other numbers of steps; give max_epochs",
}
"""Options of the trainer that leave no result to compare."""


@dataclass(frozen=True)
class Fit:
    """A configuration of ``recon fit`` and the folder of its data; makes data and networks.

    It holds plain values only, so that it can be sent to another process.

    >>> fit = Fit({"data": {"class_path": "recon.data.Glyphs"}})
    >>> [task.name for task in fit.tasks()]
    ['digit', 'letter']

    Attributes:
        section: The keys ``trainer``, ``model`` and ``data``, as a plan's ``fit`` has them.
        root: Folder of the data set, for data modules that read one; the section's own by default.
    """

    section: Mapping[str, Any]
    root: str | None = None

    @property
    def configuration(self) -> dict[str, Any]:
        """A copy of the section, with the folder of the data."""
        configuration = deepcopy({**self.section})
        if self.root is not None:
            data = configuration["data"]
            data["init_args"] = {**(data.get("init_args") or {}), "root": self.root}
        return configuration

    def with_model(self, values: Mapping[str, Any], **others: Any) -> "Fit":
        """The same fit with other values of ``model``, and of keys beside it.

        Args:
            values: Keys of ``model`` that are replaced or added.
            **others: Keys beside ``model`` that are replaced or added.
        """
        section = {**self.section, **others}
        return Fit({**section, "model": {**section.get("model", {}), **values}}, self.root)

    def without_files(self) -> "Fit":
        """The configuration without data folder and pretrained weights."""
        section = self.configuration
        data = section["data"]
        parameters = inspect.signature(_class(data.get("class_path"), "fit.data")).parameters
        if "root" in parameters and parameters["root"].default is inspect.Parameter.empty:
            data["init_args"] = {"root": ".", **(data.get("init_args") or {})}
        section["model"]["backbone"] = _without_weights(section["model"].get("backbone"))
        return Fit(section)

    def data(self) -> pl.LightningDataModule:
        """A new data module.

        Raises:
            ValueError: There is no such class, or it refuses its arguments.
        """
        try:
            return build_object(pl.LightningDataModule, self.configuration["data"], "fit.data")
        except ValueError as error:
            hint = " (--data gives the root)" if "root" in str(error) else ""
            raise ValueError(f"{error}{hint}") from error

    def tasks(self) -> list[Task]:
        """The tasks of the data module."""
        return tasks_of(self.data())

    def backbone(self) -> nn.Module:
        """A new backbone, before any branching; of the data's tasks if it depends on them.

        Raises:
            ValueError: There is no such class, or it refuses its arguments.
        """
        model = self.configuration["model"]
        backbone = build_object(nn.Module, model["backbone"], "fit.model.backbone")
        if not has_for_tasks(backbone):
            return backbone
        return backbone.for_tasks(model.get("only") or [task.name for task in self.tasks()])

    def command(self) -> TrainingCLI:
        """Network, data and trainer as ``recon fit`` builds them; the trainer writes no files.

        Raises:
            ValueError: A key or a value of the configuration is refused.
        """
        configuration = self.configuration
        trainer = {**configuration["trainer"], "logger": False, "enable_checkpointing": False}
        try:
            return TrainingCLI(args={**configuration, "trainer": trainer}, run=False)
        except (ArgumentError, MisconfigurationException) as error:
            raise ValueError(f"fit: {error}") from error


def devices_of(section: Mapping[str, Any]) -> int:
    """The number of devices that a plan's ``fit`` names for each run; 1 if the trainer chooses.

    >>> devices_of({"trainer": {"devices": 2}}), devices_of({"trainer": {"devices": "auto"}})
    (2, 1)

    Args:
        section: The section, checked or not.
    """
    trainer = section.get("trainer")
    devices = trainer.get("devices") if isinstance(trainer, Mapping) else None
    if isinstance(devices, list):
        return max(1, len(devices))
    if isinstance(devices, str) and devices.isdecimal():
        devices = int(devices)
    return max(1, devices) if isinstance(devices, int) else 1


def _without_weights(backbone: Any) -> Any:
    """The configuration of a backbone, and of those inside an architecture, not pretrained."""
    if isinstance(backbone, list):
        return [_without_weights(part) for part in backbone]
    if not isinstance(backbone, dict):
        return backbone
    parts = {key: _without_weights(part) for key, part in backbone.items()}
    return {**parts, "pretrained": False} if backbone.get("pretrained") else parts


def check_section(fit: Mapping[str, Any]) -> None:
    """Check the values of a plan's ``fit`` that every run reads or sets.

    The keys of trainer, network and data are checked by ``recon fit`` itself.

    Raises:
        ValueError: Trainer, backbone or data are missing, the benchmark sets a key itself, or
            nothing would be trained or tested.
    """
    for section, key in (("trainer", "max_epochs"), ("model", "backbone"), ("data", "class_path")):
        if not isinstance(fit.get(section), dict) or key not in fit[section]:
            raise ValueError(f"fit.{section}.{key} is missing; fit.{section} is {fit.get(section)}")
    for path in _SET_RUN_BY_RUN:
        section, _, key = path.rpartition(".")
        if key in (fit[section] if section else fit):
            raise ValueError(f"fit.{path} is set by the benchmark, run by run; leave it out")
    _check_trainer(fit["trainer"])


def _check_trainer(trainer: Mapping[str, Any]) -> None:
    epochs = trainer["max_epochs"]
    if type(epochs) is not int or epochs < 1:
        raise ValueError(f"fit.trainer.max_epochs must be a whole number of epochs from 1, got {epochs!r}")
    steps = trainer.get("max_steps", -1)
    if type(steps) is not int or not (steps >= 1 or steps == -1):
        raise ValueError(f"fit.trainer.max_steps must be a whole number of steps from 1, or -1 for all, got {steps!r}")
    for key, reason in _NO_RESULTS.items():
        if trainer.get(key):
            raise ValueError(f"fit.trainer.{key}: {trainer[key]} {reason}; leave it out")
    for key, verb in (("limit_train_batches", "trained"), ("limit_test_batches", "tested")):
        if trainer.get(key) is not None and trainer[key] == 0:
            raise ValueError(f"fit.trainer.{key} is {trainer[key]!r}, so nothing would be {verb}; leave it out")


def _class(path: Any, key: str) -> Any:
    found = locate(path) if isinstance(path, str) else None
    if found is None:
        nearest = nearest_class(path) if isinstance(path, str) else ""
        raise ValueError(f"{key}.class_path is {path!r}, which cannot be imported; give the path of a class{nearest}")
    return found
