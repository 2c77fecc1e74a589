import pytest
import torch
from torch.utils.data import DistributedSampler

from recon.data.batches import EpochBatches, FixedBatches, ShuffledBatches
from recon.data.shares import Share


@pytest.mark.parametrize(
    ("size", "batch_size", "lengths"),
    [(9, 4, [4, 4]), (10, 4, [4, 4, 2]), (8, 4, [4, 4]), (3, 4, [3]), (1, 4, [1]), (3, 1, [1, 1, 1])],
)
def test_only_a_last_batch_of_one_sample_is_left_out(size: int, batch_size: int, lengths: list[int]) -> None:
    batches = ShuffledBatches(size, batch_size, seed=0)
    assert [len(batch) for batch in batches] == lengths
    assert len(batches) == len(lengths)


def test_batches_carry_their_epoch_and_have_the_order_of_shuffled_batches() -> None:
    plain, carrying = ShuffledBatches(10, 4, seed=3), EpochBatches(ShuffledBatches(10, 4, seed=3), epoch=5)
    assert len(carrying) == len(plain) == 3
    for epoch in (5, 0, 2):
        if epoch != 5:
            carrying.set_epoch(epoch)
        plain.set_epoch(epoch)
        assert list(carrying) == [(epoch, batch.tolist()) for batch in plain]


def test_an_iteration_stays_in_the_epoch_in_which_it_began() -> None:
    batches = EpochBatches(ShuffledBatches(4, 2, seed=0))
    expected = list(batches)
    iterator = iter(batches)
    first = next(iterator)
    batches.set_epoch(1)
    assert [first, *iterator] == expected


@pytest.mark.parametrize("processes", [2, 3])
@pytest.mark.parametrize("size", [24, 25, 26, 31, 5, 2])
def test_processes_split_the_batches_that_one_process_sees(size: int, processes: int) -> None:
    whole = ShuffledBatches(size, 2 * processes, seed=3)
    shares = [ShuffledBatches(size, 2, seed=3, share=Share(rank, processes)) for rank in range(processes)]
    for epoch in (0, 4):
        for batches in (whole, *shares):
            batches.set_epoch(epoch)
        assert {len(batches) for batches in shares} == {len(whole)}
        for batch, *parts in zip(whole, *shares, strict=True):
            assert torch.equal(torch.cat(parts), batch)
            sizes = [len(part) for part in parts]
            assert max(sizes) - min(sizes) <= 1 and max(sizes) <= 2


def test_a_last_batch_that_is_too_small_for_all_processes_is_left_out_on_request() -> None:
    sizes = [
        [len(batch) for batch in ShuffledBatches(8, 1, 0, Share(rank, 3), least)] for rank in (2,) for least in (2, 3)
    ]
    assert sizes == [[1, 1, 0], [1, 1]]


def test_lightning_replaces_no_sampler_of_ours() -> None:
    batches = ShuffledBatches(4, 2, seed=0)
    for sampler in (batches, EpochBatches(batches), FixedBatches(list(batches))):
        assert isinstance(sampler, DistributedSampler)
