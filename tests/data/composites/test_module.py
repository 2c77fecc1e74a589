from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from recon.data.composites.module import Composites, CompositesModule, Split
from recon.tasks.per_image import classification


class Numbered(CompositesModule):
    """Each image holds its index as its value in all pixels, and as its label."""

    def __init__(
        self,
        train_size: int = 10,
        test_size: int = 7,
        batch_size: int = 4,
        eval_batch_size: int = 3,
        seed: int = 0,
        shuffle_seed: int | None = None,
    ) -> None:
        super().__init__(train_size, test_size, batch_size, eval_batch_size, seed, shuffle_seed)
        self.tasks = [classification("index", 256)]

    def compose(self, split: Split) -> Composites:
        index = torch.arange(self.sizes[split], dtype=torch.uint8)
        return Composites(index[:, None, None].expand(-1, 36, 36), {"index": index})


def order(loader: DataLoader, epoch: int) -> list[int]:
    loader.sampler.set_epoch(epoch)
    return torch.cat([targets["index"] for _, targets in loader]).tolist()


def test_batches_are_floats_in_zero_to_one_with_their_own_labels() -> None:
    for x, targets in Numbered(train_size=256).train_dataloader():
        assert x.shape == (4, 1, 36, 36)
        assert x.dtype == torch.float32
        assert targets["index"].dtype == torch.int64
        torch.testing.assert_close(x, (targets["index"] / 255).view(4, 1, 1, 1).expand_as(x))


def test_an_epoch_holds_every_training_sample_once() -> None:
    loader = Numbered().train_dataloader()
    assert sorted(order(loader, 0)) == list(range(10))
    assert [len(x) for x, _ in loader] == [4, 4, 2]


def test_the_order_is_a_function_of_shuffle_seed_and_epoch_only() -> None:
    loader = Numbered(shuffle_seed=1).train_dataloader()
    orders = [order(loader, epoch) for epoch in range(3)]
    assert len({tuple(one) for one in orders}) == 3
    torch.manual_seed(7)
    fresh = Numbered(shuffle_seed=1, seed=5).train_dataloader()
    assert [order(fresh, epoch) for epoch in (2, 0, 1)] == [orders[2], orders[0], orders[1]]
    assert order(Numbered(shuffle_seed=2).train_dataloader(), 0) != orders[0]


def test_without_a_shuffle_seed_the_order_follows_the_seed_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)

    def first(**options: int) -> list[int]:
        return order(Numbered(**options).train_dataloader(), 0)

    assert first() == first(shuffle_seed=0)
    monkeypatch.setenv("PL_GLOBAL_SEED", "3")
    assert first() == first(shuffle_seed=3)
    assert first(shuffle_seed=1) != first(shuffle_seed=3)


@pytest.mark.parametrize("name", ["val_dataloader", "test_dataloader"])
def test_validation_and_test_give_the_whole_test_split_in_order(name: str) -> None:
    loader = getattr(Numbered(), name)()
    assert torch.cat([targets["index"] for _, targets in loader]).tolist() == list(range(7))
    assert [len(x) for x, _ in loader] == [3, 3, 1]


@pytest.mark.parametrize("argument", ["train_size", "test_size", "batch_size", "eval_batch_size"])
def test_a_size_below_one_is_refused(argument: str) -> None:
    with pytest.raises(ValueError, match=f"{argument} is 0"):
        Numbered(**{argument: 0})


@pytest.mark.parametrize("argument", ["seed", "shuffle_seed"])
def test_a_negative_seed_is_refused(argument: str) -> None:
    with pytest.raises(ValueError, match=f"{argument} is -1"):
        Numbered(**{argument: -1})


class Recorder(pl.LightningModule):
    """Trains one number and notes the order of the training samples, epoch by epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.seen: dict[int, list[int]] = {}

    def training_step(self, batch: tuple[Tensor, dict[str, Tensor]], _: int) -> Tensor:
        self.seen.setdefault(self.current_epoch, []).extend(batch[1]["index"].tolist())
        return self.weight.square()

    def validation_step(self, batch: tuple[Tensor, dict[str, Tensor]], _: int) -> None: ...

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(directory: Path, epochs: int, checkpoint: Path | None = None) -> tuple[Recorder, Path]:
    recorder = Recorder()
    keeper = pl.callbacks.ModelCheckpoint(directory, filename="last")
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        callbacks=[keeper],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(recorder, datamodule=Numbered(shuffle_seed=1), ckpt_path=checkpoint)
    return recorder, Path(keeper.best_model_path)


def test_lightning_follows_the_order_also_when_it_resumes(tmp_path: Path) -> None:
    loader = Numbered(shuffle_seed=1).train_dataloader()
    expected = {epoch: order(loader, epoch) for epoch in range(4)}
    first, checkpoint = fit(tmp_path / "first", 2)
    assert first.seen == {epoch: expected[epoch] for epoch in (0, 1)}
    resumed, _ = fit(tmp_path / "second", 4, checkpoint)
    assert resumed.seen == {epoch: expected[epoch] for epoch in (2, 3)}
