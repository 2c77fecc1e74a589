import pytest

from recon.data.batches import EpochBatches, ShuffledBatches


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
