"""The contract of data modules: what training and benchmarks read beside Lightning's loaders.

A data module of your own needs ``tasks`` to be trained on, and ``input_shape`` for FLOPs to be
counted. Without ``dataset_name`` conflict maps name its class, and without ``files_read`` a
benchmark does not notice that files have changed.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, TypeGuard

from pytorch_lightning import LightningDataModule

from recon.tasks.task import Task


class DataModule(Protocol):
    """A data module that says what it holds. It yields batches ``(inputs, {task: target})``."""

    @property
    def tasks(self) -> list[Task]:
        """The tasks that the batches have targets for."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the inputs of one sample, without the batch dimension."""

    @property
    def dataset_name(self) -> str:
        """What the data are, for the provenance of a result."""


class ReadsFiles(Protocol):
    """A data module whose data come from files."""

    def files_read(self) -> Mapping[str, Path]:
        """The files, by a name that stands for each wherever its folder is."""


def tasks_of(data: LightningDataModule | None) -> list[Task]:
    """The tasks that a data module provides.

    Raises:
        ValueError: There is no data module, or it has no tasks.
    """
    tasks: list[Task] | None = getattr(data, "tasks", None)
    if not tasks:
        given = "there is no data module" if data is None else f"{type(data).__name__} has no tasks"
        raise ValueError(f"{given}; give data whose attribute `tasks` lists what is learned (recon.Task)")
    return tasks


def input_shape_of(data: LightningDataModule) -> tuple[int, ...]:
    """Shape of the inputs of one sample.

    Raises:
        ValueError: The data module does not say it.
    """
    shape: tuple[int, ...] | None = getattr(data, "input_shape", None)
    if shape is None:
        raise ValueError(
            f"{type(data).__name__} has no input_shape, by which FLOPs are counted; give it that attribute"
        )
    return shape


def dataset_name_of(data: LightningDataModule | None) -> str:
    """What the data are, by default the name of the data module's class."""
    return getattr(data, "dataset_name", type(data).__name__)


def reads_files(data: LightningDataModule) -> TypeGuard[ReadsFiles]:
    """Whether a data module fulfils :class:`ReadsFiles`."""
    return getattr(data, "files_read", None) is not None
