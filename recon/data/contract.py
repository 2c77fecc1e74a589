"""The contract of data modules: attributes that training and benchmarks read.

These stand beside Lightning's loaders. A data module of your own needs ``tasks`` to be trained on,
and ``input_shape`` for FLOPs to be counted. Without ``dataset_name`` conflict maps name its class.
Without ``files_read`` a benchmark does not notice that files have changed.
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
        """Name and settings of the data, for the provenance of a result."""


class ReadsFiles(Protocol):
    """A data module whose data come from files."""

    def files_read(self) -> Mapping[str, Path]:
        """The files, each by a name that does not depend on the place of its folder."""


def tasks_of(data: LightningDataModule | None) -> list[Task]:
    """The tasks that a data module provides.

    >>> from recon.data import Glyphs
    >>> [task.name for task in tasks_of(Glyphs())]
    ['digit', 'letter']

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

    >>> from recon.data import Glyphs
    >>> input_shape_of(Glyphs())
    (1, 36, 36)

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
    """Name and settings of the data; by default the name of the data module's class.

    >>> from recon.data import Glyphs
    >>> dataset_name_of(Glyphs(train_size=100, test_size=20))
    'Glyphs(train_size=100, test_size=20, seed=0)'
    """
    return getattr(data, "dataset_name", type(data).__name__)


def reads_files(data: LightningDataModule) -> TypeGuard[ReadsFiles]:
    """Whether a data module fulfils :class:`ReadsFiles`."""
    return getattr(data, "files_read", None) is not None
