"""Training data in two parts: fixed by the seed, in the loader's own order and form of batches."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from recon.data import Glyphs
from recon.data.batches import EpochBatches, ShuffledBatches
from recon.training.searching.halves import Alternation, PartOfBatches, alternation


def samples(epoch: Alternation, phase: str) -> list[Any]:
    return [batch[phase] for batch in epoch if phase in batch]


def loader(**options: Any) -> DataLoader[Any]:
    return DataLoader(TensorDataset(torch.arange(50)), **{"batch_size": 8, **options})


def test_parts_are_fixed_by_the_seed_and_share_nothing() -> None:
    parts = []
    for seed in (1, 1, 2):
        epoch = alternation(loader(shuffle=True), 0.2, seed, 1.0)
        held_out, trained = ([i for [x] in samples(epoch, phase) for i in x.tolist()] for phase in epoch.parts)
        assert (len(held_out), len(trained)) == (10, 40) and sorted(held_out + trained) == list(range(50))
        parts.append(set(held_out))
    assert parts[0] == parts[1] != parts[2]


def test_batches_keep_their_size_and_the_architecture_comes_first() -> None:
    epoch = alternation(loader(), 0.2, 0, 1.0)
    phases = [phase for batch in epoch for phase in batch]
    assert phases == ["architecture"] * 2 + ["weights"] * 5 and len(epoch) == 7
    assert [len(x) for [x] in samples(epoch, "weights")] == [8] * 5
    dropped = alternation(loader(drop_last=True), 0.2, 0, 1.0)
    assert [len(x) for [x] in samples(dropped, "architecture")] == [8]


@pytest.mark.parametrize(("limit", "lengths"), [(1, [1, 1]), (0.5, [1, 2]), (100, [2, 5])])
def test_a_limit_holds_for_each_part(limit: int | float, lengths: list[int]) -> None:
    epoch = alternation(loader(), 0.2, 0, limit)
    assert [len(samples(epoch, phase)) for phase in epoch.parts] == lengths
    assert len(epoch) == sum(lengths)


def test_a_loader_of_held_out_data_is_for_the_architecture() -> None:
    epoch = alternation({"train": [1, 2, 3], "validation": [4]}, 0.2, 0, 1.0)
    assert [*epoch] == [{"architecture": 4}, {"weights": 1}, {"weights": 2}, {"weights": 3}]


def test_built_in_data_are_split_in_the_order_of_the_epoch() -> None:
    data = Glyphs(train_size=50, test_size=10, batch_size=8)
    epoch = alternation(data.train_dataloader(), 0.2, 0, 1.0)
    first, again = (torch.cat([x for x, _ in samples(epoch, "weights")]) for _ in range(2))
    epoch.set_epoch(1)
    later = torch.cat([x for x, _ in samples(epoch, "weights")])
    assert torch.equal(first, again) and not torch.equal(first, later)
    assert sum(len(x) for x, _ in samples(epoch, "architecture")) == 10
    rows = (sorted(tuple(x.flatten().tolist()) for x in part) for part in (first, later))
    assert next(rows) == next(rows)


def test_batches_that_carry_their_epoch_are_split() -> None:
    batches = EpochBatches(ShuffledBatches(size=20, batch_size=4, seed=0))
    part = PartOfBatches(batches, np.arange(20) < 8)
    part.set_epoch(3)
    assert [epoch for epoch, _ in part] == [3, 3] and len(part) == 2
    assert sorted(index for _, indices in part for index in indices) == [*range(8)]


def test_the_last_sample_alone_is_left_out_unless_it_is_all() -> None:
    members = np.array([True, True, True, False])
    assert list(PartOfBatches([[0, 1], [2, 3]], members)) == [[0, 1]]
    assert list(PartOfBatches([[0, 3]], np.array([True, False, False, False]))) == [[0]]


def test_an_epoch_has_as_many_batches_when_a_sampler_gives_fewer() -> None:
    epoch = Alternation([1], [2, 3], 1.0)
    epoch.lengths["weights"] = 3
    assert samples(epoch, "weights") == [2, 3, 2]


class Stream(IterableDataset[int]):
    def __iter__(self) -> Any:
        return iter(range(5))


class Whole(Dataset[Any]):
    def __getitem__(self, index: Any) -> Any:
        return index

    def __len__(self) -> int:
        return 4


@pytest.mark.parametrize("given", [DataLoader(Stream()), [1, 2], iter([1])], ids=["stream", "list", "iterator"])
def test_data_that_cannot_be_split_are_refused_with_the_cure(given: Any) -> None:
    with pytest.raises(ValueError, match=r"cannot be split .*let train_dataloader return \{'train': loader, 'valid"):
        alternation(given, 0.2, 0, 1.0)


def test_samplers_of_another_form_are_refused_with_the_cure() -> None:
    epoch = DataLoader(Whole(), batch_size=None, sampler=["a", "b"])
    with pytest.raises(ValueError, match="a sampler of str cannot be split; let train_dataloader return"):
        alternation(epoch, 0.5, 0, 1.0)


def test_a_part_without_samples_is_refused() -> None:
    with pytest.raises(ValueError, match="there is no batch for the architecture; give more samples, or another share"):
        alternation(loader(), 0.001, 0, 1.0)
