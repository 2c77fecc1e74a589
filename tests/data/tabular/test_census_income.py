import gzip
import re
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from small_tables import census_cells, census_text

from recon.data import CensusIncome
from recon.data.tabular.census_income import CATEGORICAL, CATEGORIES, COLUMNS, NUMBERS

Write = Callable[..., Path]
OFFICIAL = Path(__file__).parents[4] / "shared" / "data"


def test_features_are_all_columns_but_the_labels_and_the_weight() -> None:
    assert len(COLUMNS) == 42
    assert {*COLUMNS} - {*CATEGORICAL, *NUMBERS} == {"instance weight", "marital status", "income"}
    assert (len(CATEGORICAL), len(NUMBERS)) == (32, 7)
    assert len(CATEGORIES) == len(CATEGORICAL)


def test_labels_are_a_high_income_and_a_status_of_never_married(write_census: Write) -> None:
    cells = census_cells(20, seed=1)
    data = CensusIncome(write_census(test=cells))
    _, labels = data.rows("test")[torch.arange(20)]
    assert labels["income"].tolist() == [int(income == "50000+.") for income in cells["income"]]
    assert labels["never_married"].tolist() == [int(status == "Never married") for status in cells["marital status"]]


def test_categories_have_places_in_alphabetic_order_of_the_training_file(write_census: Write) -> None:
    cells = census_cells(40, seed=0)
    columns = CensusIncome(write_census(training=cells)).rows("train").columns
    for index, name in enumerate(CATEGORICAL):
        known = sorted(set(cells[name]))
        assert columns[:, index].tolist() == [1 + known.index(cell) for cell in cells[name]]


def test_numbers_are_standardised_by_the_training_rows_and_money_by_its_logarithm(write_census: Write) -> None:
    training, test = census_cells(40, seed=0), census_cells(20, seed=1)
    columns = CensusIncome(write_census(training, test)).rows("test").columns
    for name in ("age", "capital gains"):
        both = [np.array(cells[name], dtype=float) for cells in (training, test)]
        of_training, of_test = both if name == "age" else map(np.log1p, both)
        expected = (of_test - of_training.mean()) / of_training.std()
        np.testing.assert_allclose(columns[:, len(CATEGORICAL) + NUMBERS.index(name)], expected, atol=1e-5)


def test_weight_and_labels_change_no_feature(write_census: Write) -> None:
    cells = census_cells(40, seed=0)
    before = CensusIncome(write_census(training=cells)).rows("train").columns
    others = census_cells(40, seed=2)
    changed = {**cells, **{name: others[name] for name in ("instance weight", "marital status", "income")}}
    after = CensusIncome(write_census(training=changed)).rows("train").columns
    torch.testing.assert_close(before, after)


def test_an_unknown_category_of_the_test_file_has_place_0_and_is_counted(write_census: Write) -> None:
    test = census_cells(20, seed=1)
    test["sex"][3] = test["sex"][8] = "z"
    root = write_census(test=test)
    for _ in range(2):  # parsed, and from the cache
        data = CensusIncome(root)
        with pytest.warns(UserWarning, match=r"census-income.test has categories that .*: sex 'z' \(2x\)\. They have"):
            rows = data.rows("test")
        assert (rows.columns[:, CATEGORICAL.index("sex")] == 0).nonzero().flatten().tolist() == [3, 8]
        assert (data.rows("train").columns[:, : len(CATEGORICAL)] > 0).all()


@pytest.mark.parametrize(("number", "said"), [(41, "41 columns in row 1"), (43, "43 columns in row 1")])
def test_a_file_with_other_columns_is_refused(write_census: Write, number: int, said: str) -> None:
    root = write_census()
    row = ", ".join("0" for _ in range(number))
    (root / "census-income" / "census-income.data").write_text(f"{row}\n")
    with pytest.raises(ValueError, match=rf"census-income.data has {said}; the documented form has 42\. Give the un"):
        CensusIncome(root).prepare_data()


@pytest.mark.parametrize(
    ("column", "cell", "said"),
    [
        ("age", "old", r"census-income.data has 'old' as 'age' in row 3, which is no number"),
        ("income", "10000.", r"census-income.data has '10000' in its last column; the official file has - 50000 or"),
        ("marital status", "Never-married", r"census-income.data has 'Never-married' as 'marital status', which the"),
        ("capital losses", "-1", r"census-income.data has -1 as 'capital losses'; an amount of money is not negative"),
    ],
)
def test_columns_in_another_order_are_refused_by_their_cells(
    write_census: Write, column: str, cell: str, said: str
) -> None:
    cells = census_cells(10, seed=0)
    cells[column][2] = cell
    with pytest.raises(ValueError, match=said):
        CensusIncome(write_census(training=cells)).prepare_data()


def test_more_categories_than_a_network_has_places_for_are_refused(write_census: Write) -> None:
    cells = census_cells(10, seed=0)
    cells["sex"] = list("abcdefghij")
    with pytest.raises(ValueError, match="has 10 categories as 'sex'; the official file has 2"):
        CensusIncome(write_census(training=cells)).prepare_data()


def test_a_missing_file_is_named_with_the_places_where_it_may_be(tmp_path: Path) -> None:
    place = re.escape(str(tmp_path / "census-income" / "census-income.data"))
    with pytest.raises(ValueError, match=rf"there is no {place}, nor .*gzipped \(.gz\) or not; put the file there"):
        CensusIncome(tmp_path).prepare_data()


def test_files_may_be_gzipped_and_lie_in_the_root_itself(write_census: Write, tmp_path: Path) -> None:
    plain = CensusIncome(write_census())
    for name in ("census-income.data", "census-income.test"):
        text = census_text(census_cells(40, seed=0) if name.endswith("data") else census_cells(20, seed=1))
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(text.encode()))
    packed = CensusIncome(tmp_path)
    torch.testing.assert_close(packed.rows("test").columns, plain.rows("test").columns)
    assert packed.files_read().keys() == plain.files_read().keys()


def test_a_damaged_gzip_is_refused(write_census: Write) -> None:
    root = write_census()
    (root / "census-income" / "census-income.data.gz").write_bytes(gzip.compress(b"1, 2\n" * 100)[:-12])
    with pytest.raises(ValueError, match=r"census-income.data.gz is damaged, or no text .*; get the file again"):
        CensusIncome(root).prepare_data()


def test_parsed_rows_are_cached_until_a_file_changes(write_census: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_census()
    first = CensusIncome(root).rows("test")
    with monkeypatch.context() as patched:
        patched.setattr("recon.data.tabular.text_file.TextFile.columns", None)  # nothing is parsed
        torch.testing.assert_close(CensusIncome(root).rows("test").columns, first.columns)
    write_census(test=census_cells(20, seed=5))
    assert not torch.equal(CensusIncome(root).rows("test").columns, first.columns)


def test_rows_that_an_earlier_version_parsed_are_checked_anew(
    write_census: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = census_cells(10, seed=0)
    cells["capital losses"][2] = "-0.5"
    root = write_census(training=cells)
    with monkeypatch.context() as patched:  # as it was when negative money passed
        patched.setattr("recon.data.tabular.census_income._MONEY", ())
        patched.setattr("recon.data.tabular.census_income._CACHE_FORMAT", 1)
        CensusIncome(root).prepare_data()
    with (
        pytest.warns(UserWarning, match="its header is another one"),
        pytest.raises(ValueError, match="an amount of money is not negative"),
    ):
        CensusIncome(root).prepare_data()


@pytest.mark.slow
@pytest.mark.skipif(not (OFFICIAL / "census-income").is_dir(), reason="the official files are not here")
def test_the_official_files_have_the_documented_rows_categories_and_shares() -> None:
    data = CensusIncome(OFFICIAL)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # no category is unknown
        training, test = data.rows("train"), data.rows("test")
    assert (len(training), len(test)) == (199_523, 99_762)
    assert [int(places) + 1 for places in training.columns[:, : len(CATEGORICAL)].amax(0)] == list(CATEGORIES)
    assert training.labels.sum(0).tolist() == [12_382, 86_485]
