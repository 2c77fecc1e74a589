"""Rows of a table: storage, splits, batches."""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from recon.data.batches import Batch
from recon.data.held_out import Loaders, check_held_out, shown, training_loaders
from recon.data.in_memory import check_seeds, check_sizes, ordered_loader, shuffled_loader
from recon.errors import number_of
from recon.tasks.task import Task

Split = Literal["train", "test"]


class Rows(Dataset[Batch]):
    """Rows and one label per task, held as tensors and indexed by batches.

    >>> rows = Rows(torch.tensor([[1.0, 0.5], [2.0, 0.1]]), torch.tensor([[1], [0]]), ["rich"])
    >>> rows[torch.tensor([1])]
    (tensor([[2.0000, 0.1000]]), {'rich': tensor([0])})

    Args:
        columns: ``(N, C)``, float32: codes of categories first, then numbers.
        labels: ``(N, K)``, integers, -1 for none.
        tasks: Names of the K tasks.
    """

    def __init__(self, columns: Tensor, labels: Tensor, tasks: Sequence[str]) -> None:
        self.columns = columns
        self.labels = labels.long()
        self.tasks = tuple(tasks)

    def __len__(self) -> int:
        return len(self.columns)

    def __getitem__(self, indices: Tensor) -> Batch:
        """Slice a batch.

        Args:
            indices: ``(B,)``, integers.

        Returns:
            Rows ``(B, C)``, float32, and labels ``(B,)`` by task.
        """
        # A fifth of the time of self.columns[indices]; and one lookup for all tasks, however many.
        columns, labels = (tensor.index_select(0, indices) for tensor in (self.columns, self.labels))
        return columns, dict(zip(self.tasks, labels.unbind(1), strict=True))

    def part(self, indices: Tensor) -> "Rows":
        """Some of the rows.

        Args:
            indices: ``(n,)``, integers.
        """
        return Rows(self.columns.index_select(0, indices), self.labels.index_select(0, indices), self.tasks)


class TabularModule(LightningDataModule, ABC):
    """Loaders over the training and the test rows of a table.

    By default there is no third split: ``val_dataloader`` and ``test_dataloader`` both give the
    **test rows**. Report the last epoch, or a mean of the last ones. With ``val_size``, so many
    training rows are held out for validation, and are trained on no more.

    Args:
        root: Folder of the files; they are looked for in ``root/FOLDER`` first, then in ``root``
            itself.
        batch_size: Batch size of training, in each process.
        eval_batch_size: Batch size of validation and test, in each process.
        val_size: Number of training rows for validation. They are drawn by ``seed``; 0 validates on
            the test rows.
        seed: Seed of all that is drawn once for the data, such as the validation rows.
        shuffle_seed: Defines the order of training data, together with the epoch; by default the
            run's seed, which Lightning's ``seed_everything`` sets, or 0.
        held_out: Share of the training rows, in [0, 0.5], that become validation batches for
            methods such as ``moml``, and are trained on no more; drawn by ``seed``.

    Attributes:
        tasks: The tasks, in the order of the labels.
        input_shape: Number of columns.
        expected: Number of rows by split; another number gives a warning.

    Raises:
        ValueError: A number that is too small; when the data are asked for: a file is missing, or
            is not of the documented form.
    """

    expected: ClassVar[Mapping[Split, int]] = {}
    tasks: list[Task]
    input_shape: tuple[int]

    def __init__(
        self,
        root: str | Path,
        batch_size: int,
        eval_batch_size: int = 10_000,
        val_size: int = 0,
        seed: int = 0,
        shuffle_seed: int | None = None,
        held_out: float = 0.0,
    ) -> None:
        super().__init__()
        check_sizes(batch_size=batch_size, eval_batch_size=eval_batch_size)
        check_seeds(seed=seed, shuffle_seed=shuffle_seed, val_size=val_size)
        self.root = Path(root).expanduser()
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.val_size = val_size
        self.seed = seed
        self.shuffle_seed = shuffle_seed
        self.held_out = check_held_out(held_out)
        self._read: dict[Split, Rows] | None = None

    @abstractmethod
    def files_read(self) -> dict[str, Path]:
        """The files, each by its name; a benchmark knows the data by their contents.

        Raises:
            ValueError: A file is missing.
        """

    @abstractmethod
    def read(self) -> dict[Split, Rows]:
        """Read both splits, or take them from a cache."""

    @property
    def dataset_name(self) -> str:
        """The set and its validation rows, for the provenance of a result."""
        validated = f"val_size={self.val_size}, seed={self.seed}" if self.val_size else ""
        return f"{type(self).__name__}({(validated + shown(self.held_out)).removeprefix(', ')})"

    def rows(self, split: Literal["train", "val", "test"]) -> Rows:
        """The rows of a split, read at the first use.

        Raises:
            ValueError: A file is missing or is not of the documented form, or there are not more
                training rows than ``val_size``.
        """
        if self._read is None:
            self._read = self.read()
            self._compare_numbers(self._read)
        if split == "test" or (split == "val" and not self.val_size):
            return self._read["test"]
        training = self._read["train"]
        if not self.val_size:
            return training
        if self.val_size >= len(training):
            raise ValueError(
                f"val_size is {self.val_size}, of {number_of(len(training), 'training row')}; leave some to train on"
            )
        order = torch.from_numpy(np.random.default_rng([self.seed, 0]).permutation(len(training)))
        held_out, trained = order[: self.val_size], order[self.val_size :]
        return training.part((held_out if split == "val" else trained).sort().values)

    def _compare_numbers(self, read: Mapping[Split, Rows]) -> None:
        for split, number in self.expected.items():
            if len(read[split]) != number:
                warnings.warn(
                    f"{self.root} has {len(read[split])} {split} rows, {type(self).__name__} has {number}; results "
                    "cannot be compared with published ones",
                    stacklevel=3,
                )

    def prepare_data(self) -> None:
        """Read the files before training, so that a fault is told at once."""
        self.rows("train")

    def train_dataloader(self) -> Loaders:
        """The training rows, in the order of ``(shuffle_seed, epoch)``; two by ``held_out``."""
        rows = self.rows("train")

        def loader(among: Tensor | None) -> DataLoader[Batch]:
            return shuffled_loader(rows, len(rows), self.batch_size, self.shuffle_seed, self.trainer, among)

        return training_loaders(loader, len(rows), self.held_out, self.seed)

    def val_dataloader(self) -> DataLoader[Batch]:
        """The validation rows in order; the **test rows** without ``val_size``."""
        rows = self.rows("val")
        return ordered_loader(rows, len(rows), self.eval_batch_size)

    def test_dataloader(self) -> DataLoader[Batch]:
        """The test rows, in order."""
        rows = self.rows("test")
        return ordered_loader(rows, len(rows), self.eval_batch_size)
