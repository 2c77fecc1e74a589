"""The commands about single runs: fit, search, validate, test and predict."""

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from recon.cli.imports import imported
from recon.plugins import import_by_name


def train(arguments: list[str]) -> None:
    """Run a command of Lightning's command line; ``arguments`` begins with its name.

    Where the trainer asks for several devices, the command runs again in a process for each.
    """
    from lightning_fabric.utilities.exceptions import MisconfigurationException

    from recon.training.command import TrainingCLI
    from recon.training.trainer import Trainer
    from recon.training.usage import FULL as FULL_HELP
    from recon.training.usage import short_help

    for known in (
        ".*LeafSpec.* is deprecated",  # Lightning's own use of torch
        "Checkpoint directory .* exists and is not empty",  # the run's own, in which its configuration is
        "Be aware that when using `ckpt_path`, callbacks",  # evaluation needs none
    ):
        warnings.filterwarnings("ignore", message=known)
    if {"-h", "--help"} & set(arguments):
        print(short_help(arguments[0], str(getattr(Trainer, arguments[0]).__doc__).splitlines()[0]), end="")
        return
    try:
        words = ["--help" if word == FULL_HELP else word for word in arguments]
        TrainingCLI(args=words, together=partial(_together, words))
    except MisconfigurationException as error:
        raise ValueError(str(error)) from error


def _together(arguments: list[str], count: int, more: list[str]) -> None:
    from recon.launching.group import train_together

    train_together(count, partial(_take_part, list(imported), [*arguments, *more]))


def _take_part(imports: Sequence[str], arguments: list[str], tell: Callable[[Any], None]) -> None:
    """Run a command in one of the processes that share it."""
    for name in imports:
        import_by_name(name)
    train(arguments)
