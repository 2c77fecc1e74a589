"""Census-Income (KDD): is an adult's income above 50,000 dollars, and did they never marry?

Lane & Kohavi, "Census-Income (KDD)", UCI Machine Learning Repository, 2000 (CC BY 4.0): 199,523
training and 99,762 test rows of the Current Population Surveys of 1994 and 1995, 42 columns, no
header. The two tasks are those of Ma et al., "Modeling Task Relationships in Multi-task Learning
with Multi-gate Mixture-of-Experts", KDD 2018, and of Tang et al., "Progressive Layered Extraction",
RecSys 2020.

Features are all columns but three: the two that the tasks ask for, and the instance weight, which
says how many people a row stands for. ``census-income.names`` calls 7 of them continuous; the other
32 are categories. Amounts of money become log(1 + x); then every number has mean 0 and standard
deviation 1 over the training rows.

The papers split the test rows in two halves, for validation and test. Here all of them are test
rows, and ``val_size`` takes validation rows from the training rows.
"""

import warnings
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from recon.data.cache import Arrays, cached, user_cache
from recon.data.tabular.coding import Places, standardised, to_numbers
from recon.data.tabular.module import Rows, Split, TabularModule
from recon.data.tabular.text_file import TextFile, find_file
from recon.tasks.per_sample import binary

COLUMNS = (
    *("age", "class of worker", "industry code", "occupation code", "education", "wage per hour"),
    *("enrolled in edu inst last wk", "marital status", "major industry code", "major occupation code", "race"),
    *("hispanic origin", "sex", "member of a labor union", "reason for unemployment"),
    *("full or part time employment stat", "capital gains", "capital losses", "dividends from stocks"),
    *("tax filer status", "region of previous residence", "state of previous residence"),
    *("detailed household and family stat", "detailed household summary in household", "instance weight"),
    *("migration code-change in msa", "migration code-change in reg", "migration code-move within reg"),
    *("live in this house 1 year ago", "migration prev res in sunbelt", "num persons worked for employer"),
    *("family members under 18", "country of birth father", "country of birth mother", "country of birth self"),
    *("citizenship", "own business or self employed", "fill inc questionnaire for veteran's admin"),
    *("veterans benefits", "weeks worked in year", "year", "income"),
)
"""The columns in the order of the files, named as in ``census-income.names``."""

_MONEY = ("wage per hour", "capital gains", "capital losses", "dividends from stocks")
NUMBERS = ("age", *_MONEY, "num persons worked for employer", "weeks worked in year")
"""The columns that are numbers."""

_LABELS = {"income": ("income", "50000+"), "never_married": ("marital status", "Never married")}
_INCOMES = ("- 50000", "50000+")
_STATUSES = (
    *("Never married", "Divorced", "Separated", "Widowed", "Married-civilian spouse present"),
    *("Married-A F spouse present", "Married-spouse absent"),
)

CATEGORICAL = tuple(
    name for name in COLUMNS if name not in (*NUMBERS, "instance weight", *(source for source, _ in _LABELS.values()))
)
"""The columns that are categories."""

CATEGORIES = (
    *(10, 53, 48, 18, 4, 25, 16, 6, 11, 3, 4, 7, 9, 7, 7, 52, 39, 9, 11, 10, 11, 4, 5, 6, 44, 44, 44, 6, 4, 4, 4),
    3,
)
"""How many places each of these columns has, that of unknown categories included."""

_FILES: dict[Split, str] = {"train": "census-income.data", "test": "census-income.test"}
_FOLDER = "census-income"
_CACHE_FORMAT = 2  # 1: before negative money and other marital statuses were refused


class CensusIncome(TabularModule):
    """The rows of Census-Income (KDD), with the tasks ``income`` and ``never_married``.

    Batches are ``(x, {"income": ..., "never_married": ...})``. The rows ``(B, 39)``, float32, hold
    32 places of categories and then 7 numbers, as
    ``TabularNet(categories=CATEGORIES, numbers=7)`` takes them. Labels ``(B,)`` are 1 for an income
    of 50,000 dollars or more, and for a marital status of "Never married".

    A category that only the test file has gets place 0 of its column. A warning counts these.

    A cache file holds the parsed rows: in the folder of the files or, if that is read-only, in the
    user's cache (on Linux ``~/.cache/recon``).

    >>> data = CensusIncome(root="data")
    >>> [task.name for task in data.tasks], data.input_shape, len(CATEGORIES)
    (['income', 'never_married'], (39,), 32)

    Args:
        root: Folder with ``census-income.data`` and ``census-income.test``, or with a folder
            ``census-income`` that holds them; gzipped (``.gz``) or not.
        batch_size: Batch size of training, in each process.
        loading: ``eval_batch_size``, ``val_size``, ``seed``, ``shuffle_seed`` and ``held_out``, as
            :class:`~recon.data.tabular.module.TabularModule` takes them.

    Raises:
        ValueError: A number that is too small; when the data are asked for: a file is missing, has
            other columns than documented, or is damaged.
    """

    expected: ClassVar = {"train": 199_523, "test": 99_762}

    def __init__(self, root: str | Path, batch_size: int = 1024, **loading: Any) -> None:
        super().__init__(root, batch_size, **loading)
        self.tasks = [binary(name) for name in _LABELS]
        self.input_shape = (len(CATEGORICAL) + len(NUMBERS),)

    def files_read(self) -> dict[str, Path]:
        """The two files; a benchmark knows the data by their contents, wherever they are."""
        return {name: find_file(self.root, _FOLDER, name) for name in _FILES.values()}

    def read(self) -> dict[Split, Rows]:
        """Parse the files, or read what was parsed from the cache."""
        training, test = (TextFile(path) for path in self.files_read().values())
        source = [training.digest, test.digest]
        arrays = cached(
            name=f"census-income-{source[0][:8]}-{source[1][:8]}.npz",
            header={"format": _CACHE_FORMAT, "source": source},
            directories=[training.path.parent, user_cache() / "CensusIncome"],
            make=partial(_parse, training, test),
        )
        if unknown := arrays["unknown"].tolist():
            warnings.warn(
                f"{test.path} has categories that {training.path.name} lacks: {'; '.join(unknown)}. They have place 0 "
                "of their column, which training does not touch",
                stacklevel=2,
            )
        return {split: _rows(arrays, split) for split in _FILES}


def _rows(arrays: Arrays, split: Split) -> Rows:
    columns = np.concatenate([arrays[f"{split}_categories"].astype(np.float32), arrays[f"{split}_numbers"]], axis=1)
    return Rows(torch.from_numpy(columns), torch.from_numpy(arrays[f"{split}_labels"]), list(_LABELS))


def _parse(training: TextFile, test: TextFile) -> Arrays:
    """The rows of both files as arrays; the training file decides on places and scales."""
    tables = [_Table(file) for file in (training, test)]
    places = [[table.columns[name] for table in tables] for name in CATEGORICAL]
    coded, unknown = [], []
    for name, most, (of_training, of_test) in zip(CATEGORICAL, CATEGORIES, places, strict=True):
        known = Places(of_training)
        if len(known) > most:
            raise ValueError(
                f"{training.path} has {len(known) - 1} categories as {name!r}; the official file has {most - 1}. Give "
                "the unchanged file"
            )
        coded.append([known.of(cells) for cells in (of_training, of_test)])
        unknown += [f"{name} {cell!r} ({count}x)" for cell, count in known.unknown(of_test).items()]
    numbers = standardised(*(table.numbers() for table in tables))
    arrays: Arrays = {"unknown": np.array(unknown, dtype=np.str_)}
    for index, split in enumerate(_FILES):
        arrays[f"{split}_categories"] = np.stack([both[index] for both in coded], axis=1).astype(np.uint8)
        arrays[f"{split}_numbers"] = numbers[index]
        arrays[f"{split}_labels"] = tables[index].labels()
    return arrays


class _Table:
    """The cells of a file, by the names of the columns."""

    def __init__(self, file: TextFile) -> None:
        self.path = file.path
        self.columns = dict(zip(COLUMNS, file.columns(len(COLUMNS)), strict=True))

    def numbers(self) -> np.ndarray:
        """The columns of numbers, ``(N, 7)``, amounts of money as log(1 + x)."""
        values = {name: to_numbers(self.columns[name], name, self.path) for name in NUMBERS}
        for name in _MONEY:
            if values[name].min() < 0:
                raise ValueError(
                    f"{self.path} has {values[name].min():g} as {name!r}; an amount of money is not negative there. "
                    "Give the unchanged file"
                )
        return np.stack([np.log1p(values[name]) if name in _MONEY else values[name] for name in NUMBERS], axis=1)

    def labels(self) -> np.ndarray:
        """The labels ``(N, 2)``, uint8."""
        incomes = [cell.rstrip(".") for cell in self.columns["income"]]
        if strange := sorted(set(incomes) - set(_INCOMES)):
            raise ValueError(
                f"{self.path} has {strange[0]!r} in its last column; the official file has {' or '.join(_INCOMES)} "
                "there. Give the unchanged file"
            )
        statuses = self.columns["marital status"]
        if strange := sorted(set(statuses) - set(_STATUSES)):
            raise ValueError(
                f"{self.path} has {strange[0]!r} as 'marital status', which the official file has not. Give the "
                "unchanged file"
            )
        never_married = [cell == _LABELS["never_married"][1] for cell in statuses]
        return np.stack([np.array(incomes) == _INCOMES[1], never_married], axis=1).astype(np.uint8)
