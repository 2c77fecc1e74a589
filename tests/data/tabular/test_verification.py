from collections.abc import Callable
from pathlib import Path

import pytest
from small_tables import census_cells, write_yeast_file

from recon.data.preparation import verify
from recon.data.tabular.verification import verify_tables

Write = Callable[..., Path]


def test_the_tables_of_a_folder_are_counted(write_census: Write, capsys: pytest.CaptureFixture[str]) -> None:
    cells = census_cells(40, seed=0)
    root = write_census(training=cells)
    verify(root)
    income, married = cells["income"].count("50000+.") / 40, cells["marital status"].count("Never married") / 40
    assert capsys.readouterr().out == (
        "CensusIncome: 40 training and 20 test rows; positive in training: "
        f"income {income:.1%}, never_married {married:.1%}\n"
    )
    write_yeast_file(root)
    verify(root)
    assert capsys.readouterr().out.splitlines()[1].startswith("Yeast: 1500 training and 10 test rows; positive in ")


def test_a_table_of_another_form_is_refused(write_census: Write) -> None:
    root = write_census()
    (root / "census-income" / "census-income.test").write_text("1, 2\n")
    with pytest.raises(ValueError, match="has 2 columns in row 1; the documented form has 42"):
        verify(root)


def test_a_folder_without_tables_is_none_of_theirs(tmp_path: Path) -> None:
    assert list(verify_tables(tmp_path)) == []
