import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for small_tables

from small_tables import Cells, write_census_files

from recon.data import CensusIncome, Yeast


@pytest.fixture(autouse=True)
def any_number_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small tables give no warning."""
    for table in (CensusIncome, Yeast):
        monkeypatch.setattr(table, "expected", {})


@pytest.fixture
def write_census(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Writes both files and gives their root."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def write(training: Cells | None = None, test: Cells | None = None) -> Path:
        write_census_files(tmp_path / "data", training, test)
        return tmp_path / "data"

    return write
