import pytest
import pytorch_lightning as pl
import torch

from recon.data.shares import WHOLE, Share, own_share, shared_in_order, smallest_last_batch


@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize(("size", "batch_size"), [(3, 1), (7, 3), (12, 2), (13, 2), (14, 100), (27, 10)])
def test_an_evaluation_has_every_sample_once_in_order(size: int, batch_size: int, processes: int) -> None:
    shares = [shared_in_order(size, batch_size, Share(rank, processes)) for rank in range(processes)]
    assert torch.equal(torch.cat([batch for batches in shares for batch in batches]), torch.arange(size))
    assert len({len(batches) for batches in shares}) == 1
    assert all(1 <= len(batch) <= max(2, batch_size) for batches in shares for batch in batches)


def test_alone_all_batches_but_the_last_are_full() -> None:
    assert [len(batch) for batch in shared_in_order(7, 3, WHOLE)] == [3, 3, 1]


def test_fewer_samples_than_processes_are_refused() -> None:
    with pytest.raises(ValueError, match="2 samples cannot be shared by 3 processes"):
        shared_in_order(2, 4, Share(0, 3))


def test_without_a_process_group_everything_is_ones_own() -> None:
    assert own_share() == WHOLE
    assert torch.equal(WHOLE.of(torch.arange(3)), torch.arange(3))


@pytest.mark.parametrize(("synced", "least"), [(False, 2), (True, 3)])
def test_synchronised_statistics_need_a_sample_in_every_process(synced: bool, least: int) -> None:
    trainer = pl.Trainer(accelerator="cpu", devices=3, strategy="ddp", sync_batchnorm=synced, logger=False)
    assert smallest_last_batch(trainer) == least
    assert smallest_last_batch(None) == 2
