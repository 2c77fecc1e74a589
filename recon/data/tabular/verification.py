"""Checks of the files of tables: read whole, and told in numbers."""

from collections.abc import Iterator
from pathlib import Path

from recon.data.tabular.census_income import CensusIncome
from recon.data.tabular.module import TabularModule
from recon.data.tabular.yeast import Yeast

_TABLES: tuple[type[TabularModule], ...] = (CensusIncome, Yeast)


def verify_tables(root: Path) -> Iterator[str]:
    """Read each table that a folder holds, and describe its rows and labels.

    Args:
        root: A folder as the data modules take it.

    Yields:
        A line for each table; none for a folder without any.

    Raises:
        ValueError: A file is damaged, or is not of the documented form.
    """
    for table in _TABLES:
        data = table(root=root, batch_size=1)
        try:
            data.files_read()
        except ValueError:
            continue
        training, test = data.rows("train"), data.rows("test")
        shares = training.labels.double().mean(0).tolist()
        told = ", ".join(f"{task.name} {share:.1%}" for task, share in zip(data.tasks, shares, strict=True))
        yield f"{table.__name__}: {len(training)} training and {len(test)} test rows; positive in training: {told}"
