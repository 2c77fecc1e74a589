"""Small files in the documented form of Census-Income and of Yeast."""

from pathlib import Path

import numpy as np

from recon.data.tabular.census_income import COLUMNS, NUMBERS
from recon.data.tabular.yeast import FEATURES, LABELS

Cells = dict[str, list[str]]


def census_cells(rows: int, seed: int) -> Cells:
    """Random cells of every column; categories are a or b."""
    generator = np.random.default_rng(seed)
    cells = {name: [str(cell) for cell in generator.choice(list("ab"), rows)] for name in COLUMNS}
    cells |= {name: [str(number) for number in generator.integers(0, 100, rows)] for name in NUMBERS}
    cells["instance weight"] = [f"{weight:.2f}" for weight in generator.uniform(100, 2000, rows)]
    cells["marital status"] = [str(status) for status in generator.choice(["Never married", "Divorced"], rows)]
    cells["income"] = [str(income) for income in generator.choice(["- 50000.", "50000+."], rows)]
    return cells


def census_text(cells: Cells) -> str:
    """The rows as the official files write them: a comma and a blank between cells, a point at the end."""
    return "".join(", ".join(row) + "\n" for row in zip(*(cells[name] for name in COLUMNS), strict=True))


def write_census_files(root: Path, training: Cells | None = None, test: Cells | None = None) -> None:
    """Write both files to ``root/census-income``."""
    folder = root / "census-income"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "census-income.data").write_text(census_text(training or census_cells(40, seed=0)))
    (folder / "census-income.test").write_text(census_text(test or census_cells(20, seed=1)))


def yeast_text(rows: int, names: tuple[str, ...] = (*FEATURES, *LABELS)) -> str:
    """Random rows under the names of the columns."""
    generator = np.random.default_rng(0)
    features = generator.normal(size=(rows, len(FEATURES))).round(4)
    labels = generator.integers(0, 2, (rows, len(LABELS)))
    cells = [[*map(str, left), *map(str, right)] for left, right in zip(features, labels, strict=True)]
    return "".join(",".join(row) + "\n" for row in [names, *cells])


def write_yeast_file(root: Path, text: str = "") -> None:
    """Write ``root/yeast/yeast.csv``, by default with 1,510 rows, of which 10 are for the test."""
    (root / "yeast").mkdir(parents=True, exist_ok=True)
    (root / "yeast" / "yeast.csv").write_text(text or yeast_text(1510))
