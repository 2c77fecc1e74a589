"""Yeast: which of 14 groups of functions does a gene have?

Elisseeff & Weston, "A kernel method for multi-labelled classification", NeurIPS 2001: 2,417 genes,
103 features of micro-array expression and phylogenetic profile, 14 functional classes of which a
gene has 4.2 on average.

The official split has 1,500 training and 917 test rows. The one file of all rows does not say which
are which: by default the first 1,500 are training rows, in the file's order. With ``split_seed``
another 1,500 are drawn.
"""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from recon.data.in_memory import check_seeds
from recon.data.tabular.coding import standardised, to_numbers
from recon.data.tabular.module import Rows, Split, TabularModule
from recon.data.tabular.text_file import TextFile, find_file
from recon.errors import number_of
from recon.tasks.per_sample import binary

FEATURES = tuple(f"Att{number}" for number in range(1, 104))
LABELS = tuple(f"Class{number}" for number in range(1, 15))
TRAINING_ROWS = 1_500

_FILE = "yeast.csv"
_FOLDER = "yeast"
_SPLITS: tuple[Split, ...] = ("train", "test")


class Yeast(TabularModule):
    """The genes of Yeast, with the 14 binary tasks ``class1`` to ``class14``.

    Batches are ``(x, {"class1": ..., ..., "class14": ...})``: 103 features ``(B, 103)``, float32,
    with mean 0 and standard deviation 1 over the training rows, and labels ``(B,)``, 1 or 0.
    ``class14`` has 34 positive rows in all, so its metrics are noisy.

    >>> data = Yeast(root="data")
    >>> len(data.tasks), data.input_shape
    (14, (103,))

    Args:
        root: Folder with ``yeast.csv``, or with a folder ``yeast`` that holds it; gzipped
            (``.csv.gz``) or not. Its first row names the columns, Att1 to Att103 and Class1 to
            Class14.
        batch_size: Batch size of training, in each process.
        split_seed: Draws the training rows; ``None`` takes the first 1,500 of the file.
        loading: ``eval_batch_size``, ``val_size``, ``seed``, ``shuffle_seed`` and ``held_out``, as
            :class:`~recon.data.tabular.module.TabularModule` takes them.

    Raises:
        ValueError: A number that is too small; when the data are asked for: the file is missing,
            has other columns, not more than 1,500 rows, or is damaged.
    """

    expected: ClassVar = {"train": TRAINING_ROWS, "test": 917}

    def __init__(self, root: str | Path, batch_size: int = 64, split_seed: int | None = None, **loading: Any) -> None:
        super().__init__(root, batch_size, **loading)
        check_seeds(split_seed=split_seed)
        self.split_seed = split_seed
        self.tasks = [binary(label.lower()) for label in LABELS]
        self.input_shape = (len(FEATURES),)

    @property
    def dataset_name(self) -> str:
        """The set, its split and its validation rows, for the provenance of a result."""
        name = super().dataset_name
        if self.split_seed is None:
            return name
        more = "" if name.endswith("()") else ", "
        return name.replace("(", f"(split_seed={self.split_seed}{more}", 1)

    def files_read(self) -> dict[str, Path]:
        """The file; a benchmark knows the data by its content, wherever it is."""
        return {_FILE: find_file(self.root, _FOLDER, _FILE)}

    def read(self) -> dict[Split, Rows]:
        """Parse the file, which takes a moment."""
        file = TextFile(self.files_read()[_FILE])
        table = _table(file)
        if len(table) <= TRAINING_ROWS:
            raise ValueError(
                f"{file.path} has {number_of(len(table), 'row')}; {TRAINING_ROWS} are for training. Give the whole file"
            )
        if self.split_seed is not None:
            table = np.random.default_rng([self.split_seed, 1]).permutation(table)
        features, labels = np.split(table, [len(FEATURES)], axis=1)
        if len(wrong := labels[(labels != 0) & (labels != 1)]):
            raise ValueError(f"{file.path} has the label {wrong[0]:g}; a label is 0 or 1. Give the unchanged file")
        both = standardised(*np.split(features, [TRAINING_ROWS]))
        names = [task.name for task in self.tasks]
        return {
            split: Rows(torch.from_numpy(columns), torch.from_numpy(truth), names)
            for split, columns, truth in zip(_SPLITS, both, np.split(labels, [TRAINING_ROWS]), strict=True)
        }


def _table(file: TextFile) -> np.ndarray:
    """The rows as numbers, ``(N, 117)``.

    Raises:
        ValueError: The columns have other names, or a cell is no number.
    """
    expected = [*FEATURES, *LABELS]
    columns = file.columns(len(expected))
    names = [column[0] for column in columns]
    if names != expected:
        index = next(index for index, pair in enumerate(zip(names, expected, strict=True)) if pair[0] != pair[1])
        raise ValueError(
            f"{file.path} calls its column {index + 1} {names[index]!r}; it should be {expected[index]!r}. Give the "
            "unchanged file"
        )
    return np.stack([to_numbers(column, name, file.path) for name, *column in columns], axis=1)
