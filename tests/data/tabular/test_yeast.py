import re
from pathlib import Path

import numpy as np
import pytest
import torch
from small_tables import write_yeast_file, yeast_text

from recon.data import Yeast
from recon.data.tabular.yeast import FEATURES, LABELS


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_yeast_file(tmp_path)
    return tmp_path


def cells(root: Path) -> np.ndarray:
    return np.loadtxt(root / "yeast" / "yeast.csv", delimiter=",", skiprows=1)


def test_the_first_1500_rows_are_trained_on_and_standardise_all(root: Path) -> None:
    data = Yeast(root)
    features, labels = np.split(cells(root), [103], axis=1)
    expected = (features - features[:1500].mean(0)) / features[:1500].std(0)
    for split, part in (("train", slice(1500)), ("test", slice(1500, None))):
        rows = data.rows(split)  # type: ignore[arg-type]
        np.testing.assert_allclose(rows.columns, expected[part], atol=1e-5)
        np.testing.assert_array_equal(rows.labels, labels[part])


def test_each_label_is_a_task_of_its_own(root: Path) -> None:
    data = Yeast(root)
    assert [task.name for task in data.tasks] == [f"class{number}" for number in range(1, 15)]
    _, targets = next(iter(data.test_dataloader()))
    for number, target in enumerate(targets.values()):
        torch.testing.assert_close(target, data.rows("test").labels[:, number])


def test_another_split_is_a_function_of_its_seed(root: Path) -> None:
    order = Yeast(root).rows("test").labels
    drawn = Yeast(root, split_seed=1)
    assert not torch.equal(drawn.rows("test").labels, order)
    torch.testing.assert_close(Yeast(root, split_seed=1).rows("test").labels, drawn.rows("test").labels)
    assert not torch.equal(Yeast(root, split_seed=2).rows("test").labels, drawn.rows("test").labels)
    every = torch.cat([drawn.rows("train").labels, drawn.rows("test").labels])
    np.testing.assert_array_equal(every.sum(0), cells(root)[:, 103:].sum(0))
    assert drawn.dataset_name == "Yeast(split_seed=1)"
    assert Yeast(root, split_seed=1, val_size=5).dataset_name == "Yeast(split_seed=1, val_size=5, seed=0)"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (yeast_text(1500), "yeast.csv has 1500 rows; 1500 are for training. Give the whole file"),
        (
            yeast_text(2, (*FEATURES[:5], "Att7", *FEATURES[6:], *LABELS)),
            "calls its column 6 'Att7'; it should be 'Att6'",
        ),
        (yeast_text(2).replace(",Class14", ""), "yeast.csv has 116 columns in row 1; the documented form has 117"),
        (
            yeast_text(1501).replace("\n", ",\n").replace(",\n", "\n", 1).replace("1,\n", "2\n").replace(",\n", "\n"),
            "yeast.csv has the label 2; a label is 0 or 1. Give the unchanged file",
        ),
        (yeast_text(1).replace("0.1257", "abc"), "yeast.csv has 'abc' as 'Att1' in row 1, which is no number"),
    ],
)
def test_a_file_of_another_form_is_refused(tmp_path: Path, text: str, said: str) -> None:
    write_yeast_file(tmp_path, text)
    with pytest.raises(ValueError, match=re.escape(said)):
        Yeast(tmp_path).prepare_data()


def test_a_missing_file_and_a_negative_seed_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no .*yeast\.csv, nor .*; put the file there"):
        Yeast(tmp_path).prepare_data()
    with pytest.raises(ValueError, match="split_seed is -1; it must not be negative"):
        Yeast(tmp_path, split_seed=-1)
