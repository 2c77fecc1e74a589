from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from recon.data import CensusIncome

Write = Callable[..., Path]


def rows_of(loader: DataLoader) -> torch.Tensor:
    return torch.cat([x for x, _ in loader])


def test_batches_are_slices_with_their_own_labels(write_census: Write) -> None:
    data = CensusIncome(write_census(), batch_size=16)
    rows = data.rows("train")
    by_row = {
        tuple(row): tuple(labels) for row, labels in zip(rows.columns.tolist(), rows.labels.tolist(), strict=True)
    }
    sizes = []
    for x, targets in data.train_dataloader():
        assert (x.dtype, targets["income"].dtype) == (torch.float32, torch.int64)
        for row, *labels in zip(x.tolist(), targets["income"].tolist(), targets["never_married"].tolist(), strict=True):
            assert by_row[tuple(row)] == tuple(labels)
        sizes.append(len(x))
    assert sizes == [16, 16, 8]


def test_validation_gives_the_test_rows_in_order(write_census: Write) -> None:
    data = CensusIncome(write_census(), eval_batch_size=7)
    for loader in (data.val_dataloader(), data.test_dataloader()):
        torch.testing.assert_close(rows_of(loader), data.rows("test").columns)


def test_validation_rows_of_a_seed_are_training_rows_that_are_trained_on_no_more(write_census: Write) -> None:
    root = write_census()
    every = CensusIncome(root).rows("train").columns
    data = CensusIncome(root, val_size=10, seed=3)
    held_out, trained = data.rows("val").columns, data.rows("train").columns
    assert (len(held_out), len(trained)) == (10, 30)
    assert sorted([*held_out.tolist(), *trained.tolist()]) == sorted(every.tolist())
    torch.testing.assert_close(CensusIncome(root, val_size=10, seed=3).rows("val").columns, held_out)
    assert not torch.equal(CensusIncome(root, val_size=10, seed=4).rows("val").columns, held_out)
    torch.testing.assert_close(rows_of(data.test_dataloader()), CensusIncome(root).rows("test").columns)
    assert data.dataset_name == "CensusIncome(val_size=10, seed=3)"


def test_all_rows_for_validation_are_refused(write_census: Write) -> None:
    with pytest.raises(ValueError, match="val_size is 40, of 40 training rows; leave some to train on"):
        CensusIncome(write_census(), val_size=40).train_dataloader()


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"eval_batch_size": 0}, {"val_size": -1}, {"seed": -1}])
def test_numbers_that_are_too_small_are_refused(options: dict[str, int]) -> None:
    ((name, _),) = options.items()
    with pytest.raises(ValueError, match=f"{name} is "):
        CensusIncome("data", **options)


def test_another_number_of_rows_than_the_official_one_gives_a_warning(
    write_census: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_census()
    monkeypatch.setattr(CensusIncome, "expected", {"train": 40, "test": 99_762})
    with pytest.warns(
        UserWarning, match="has 20 test rows, CensusIncome has 99762; results cannot be compared"
    ) as told:
        CensusIncome(root).prepare_data()
    assert len(told) == 1
