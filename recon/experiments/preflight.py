"""What can be wrong with a plan's ``fit`` by its values alone; its keys are for ``recon fit`` to check."""

from collections.abc import Mapping
from typing import Any

_SET_BY_THE_RUNNER = (
    "seed_everything",
    "trainer.callbacks",
    "trainer.enable_checkpointing",
    "trainer.logger",
    "trainer.plugins",
    "model.method",
    "model.method_options",
    "model.at",
    "model.only",
    "model.branch",
)

_NO_RESULTS = {
    "fast_dev_run": "tries one batch, which is no result",
    "overfit_batches": "trains on a few batches, over and over; limit_train_batches takes part of the data",
    "barebones": "keeps neither checkpoints nor metrics",
    "max_time": "ends each run after other numbers of steps; give max_epochs",
}
"""Options of the trainer with which a run would come to nothing that can be compared."""


def check_fit(fit: Mapping[str, Any]) -> None:
    """Check the values of ``fit`` that the runner reads or writes, and those that would leave no result.

    Raises:
        ValueError: Trainer, backbone or data are missing, a key is the benchmark's to set, or nothing would be trained
            or tested.
    """
    for section, key in (("trainer", "max_epochs"), ("model", "backbone"), ("data", "class_path")):
        if not isinstance(fit.get(section), dict) or key not in fit[section]:
            raise ValueError(f"fit.{section}.{key} is missing; fit.{section} is {fit.get(section)}")
    for path in _SET_BY_THE_RUNNER:
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
