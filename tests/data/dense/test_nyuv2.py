import re
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from recon.data import NYUv2
from recon.data.batches import Batch, ShuffledBatches
from recon.data.dense.augmentation import RandomViews
from recon.data.dense.layout import Split

SIZE = (6, 8)
WriteLayout = Callable[..., Path]


@pytest.fixture(autouse=True)
def few_scenes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(NYUv2, "expected", {"train": 5, "val": 3})
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)


def small(root: Path, **options: Any) -> NYUv2:
    return NYUv2(**{"root": root, "height": 6, "width": 8, "eval_batch_size": 2, **options})


def epoch_of(loader: DataLoader[Batch], epoch: int) -> list[Batch]:
    loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
    return list(loader)


def assert_equal(found: list[Batch], expected: list[Batch]) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)


def test_tasks_and_shape_are_known_without_any_data(tmp_path: Path) -> None:
    data = NYUv2(tmp_path / "nowhere")
    assert [(task.name, task.outputs) for task in data.tasks] == [("segmentation", 13), ("depth", 1), ("normals", 3)]
    assert data.input_shape == (3, 288, 384)
    assert data.dataset_name == "NYUv2(height=288, width=384)"


def test_metrics_are_aggregated_as_asked(tmp_path: Path) -> None:
    def kinds(**options: Any) -> list[type]:
        return [type(metric) for task in NYUv2(tmp_path, **options).tasks for metric in task.metrics().values()]

    assert kinds() == kinds(aggregation="dataset")
    assert not set(kinds()) & set(kinds(aggregation="per_batch"))


def test_a_subset_of_tasks_is_given_in_the_order_asked_for(write_layout: WriteLayout) -> None:
    root = write_layout()
    shutil.rmtree(root / "train" / "normal")
    data = small(root, tasks=("depth", "segmentation"))
    assert [task.name for task in data.tasks] == ["depth", "segmentation"]
    _, targets = next(iter(data.train_dataloader()))
    assert list(targets) == ["depth", "segmentation"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tasks": ("segmentation", "normal")}, "unknown task 'normal'; nearest: 'normals'"),
        ({"tasks": ("depth", "depth")}, "'depth' is given more than once"),
        ({"tasks": ()}, "tasks is empty; give some of segmentation, depth, normals"),
        ({"height": 0}, "height is 0"),
        ({"width": 0}, "width is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"eval_batch_size": 0}, "eval_batch_size is 0"),
        ({"num_workers": -1}, "num_workers is -1"),
        ({"shuffle_seed": -1}, "shuffle_seed is -1"),
    ],
)
def test_what_cannot_be_is_refused_at_once(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        NYUv2(tmp_path, **options)


# The files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("begin", [lambda data: data.prepare_data(), lambda data: data.setup("fit")])
@pytest.mark.parametrize("split", ["train", "val"])
def test_a_missing_split_is_named_with_its_cure_before_training(
    write_layout: WriteLayout, split: str, begin: Callable[[NYUv2], None]
) -> None:
    root = write_layout()
    shutil.rmtree(root / split)
    with pytest.raises(ValueError, match=re.escape(f"{root / split}; ") + ".*`recon data prepare nyuv2` makes"):
        begin(small(root))


def test_a_half_prepared_layout_is_refused(write_layout: WriteLayout) -> None:
    root = write_layout()
    (root / "preparing.json").write_text("{}")
    with pytest.raises(ValueError, match=f"{re.escape(str(root))} is unfinished; the 'recon data prepare'"):
        small(root).prepare_data()


def test_labels_of_more_classes_are_refused_before_training(write_layout: WriteLayout) -> None:
    root = write_layout(classes=40)
    with pytest.raises(ValueError, match="classes are 0 to 12"):
        small(root).prepare_data()


def test_evaluation_needs_no_training_split(write_layout: WriteLayout) -> None:
    root = write_layout()
    shutil.rmtree(root / "train")
    data = small(root)
    data.setup("test")
    assert [len(x) for x, _ in data.test_dataloader()] == [2, 1]


def test_scenes_of_another_size_are_refused(write_layout: WriteLayout) -> None:
    root = write_layout()
    with pytest.raises(ValueError, match=re.escape("expected (8, 6, 3): height and width are swapped; `recon")):
        small(root, height=8, width=6).prepare_data()


def test_another_number_of_scenes_than_published_is_a_warning(write_layout: WriteLayout) -> None:
    root = write_layout(train=4)
    with pytest.warns(UserWarning, match=re.escape(f"{root / 'train'} has 4 scenes, NYUv2 has 5")):
        small(root).prepare_data()
    write_layout(train=5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        small(root).prepare_data()


# The batches --------------------------------------------------------------------------------------


def test_without_augmentation_an_epoch_shows_every_scene_as_it_is(write_layout: WriteLayout) -> None:
    data = small(write_layout(), augment=False, shuffle_seed=1)
    loader = data.train_dataloader()
    for epoch in (0, 3):
        order = ShuffledBatches(5, 2, seed=1)
        order.set_epoch(epoch)
        assert_equal(epoch_of(loader, epoch), [data.scenes("train")[(0, batch.tolist())] for batch in order])


def test_with_augmentation_the_same_order_is_seen_through_views_of_seed_and_epoch(write_layout: WriteLayout) -> None:
    data = small(write_layout(), shuffle_seed=1)
    loader = data.train_dataloader()
    seen = data.scenes("train").through(RandomViews(SIZE, seed=1))
    epochs = []
    for epoch in (0, 3):
        order = ShuffledBatches(5, 2, seed=1)
        order.set_epoch(epoch)
        epochs.append(epoch_of(loader, epoch))
        assert_equal(epochs[-1], [seen[(epoch, batch.tolist())] for batch in order])
    assert not torch.equal(epochs[0][0][0], epochs[1][0][0])


def test_without_a_shuffle_seed_order_and_views_follow_the_seed_of_the_run(
    write_layout: WriteLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_layout()

    def first(**options: int) -> list[Batch]:
        return epoch_of(small(root, **options).train_dataloader(), 0)

    assert_equal(first(), first(shuffle_seed=0))
    expected = first(shuffle_seed=3)
    monkeypatch.setenv("PL_GLOBAL_SEED", "3")
    assert_equal(first(), expected)


@pytest.mark.parametrize("name", ["val_dataloader", "test_dataloader"])
def test_validation_and_test_give_the_val_split_in_order_and_as_it_is(write_layout: WriteLayout, name: str) -> None:
    data = small(write_layout())
    loader = getattr(data, name)()
    assert_equal(list(loader), [data.scenes("val")[(0, [0, 1])], data.scenes("val")[(0, [2])]])


def test_any_number_of_workers_gives_the_same_batches(write_layout: WriteLayout) -> None:
    root = write_layout()

    def batches(workers: int) -> Iterator[list[Batch]]:
        data = small(root, num_workers=workers)
        loader = data.train_dataloader()
        for epoch in (0, 1, 0):
            yield epoch_of(loader, epoch)
        yield list(data.val_dataloader())

    for found, expected in zip(batches(2), batches(0), strict=True):
        assert_equal(found, expected)


# Under Lightning ----------------------------------------------------------------------------------


class Recorder(pl.LightningModule):
    """Trains one number and keeps the batches of each epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.seen: dict[int, list[Batch]] = {}

    def training_step(self, batch: Batch, _: int) -> Tensor:
        self.seen.setdefault(self.current_epoch, []).append(batch)
        return self.weight.square()

    def validation_step(self, batch: Batch, _: int) -> None: ...

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(
    data: NYUv2, directory: Path, epochs: int, checkpoint: Path | None = None, **options: Any
) -> tuple[Recorder, Path]:
    recorder = Recorder()
    keeper = pl.callbacks.ModelCheckpoint(directory, filename="last")
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        callbacks=[keeper],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )
    trainer.fit(recorder, datamodule=data, ckpt_path=checkpoint)
    return recorder, Path(keeper.best_model_path)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_resumed_run_sees_what_an_uninterrupted_one_sees(
    write_layout: WriteLayout, tmp_path: Path, workers: int
) -> None:
    root = write_layout()
    loader = small(root).train_dataloader()
    expected = {epoch: epoch_of(loader, epoch) for epoch in range(4)}

    def assert_seen(recorder: Recorder, epochs: list[int]) -> None:
        assert list(recorder.seen) == epochs
        for epoch in epochs:
            assert_equal(recorder.seen[epoch], expected[epoch])

    first, checkpoint = fit(small(root, num_workers=workers), tmp_path / "first", 2)
    assert_seen(first, [0, 1])
    resumed, _ = fit(small(root, num_workers=workers), tmp_path / "second", 4, checkpoint)
    assert_seen(resumed, [2, 3])


def test_overfitting_sees_the_same_views_of_the_same_scenes(write_layout: WriteLayout, tmp_path: Path) -> None:
    root = write_layout()
    recorder, _ = fit(small(root), tmp_path, 2, overfit_batches=1)
    expected = epoch_of(small(root).train_dataloader(), 0)[:1]
    for epoch in range(2):
        assert_equal(recorder.seen[epoch], expected)


def test_files_are_checked_once(write_layout: WriteLayout) -> None:
    root = write_layout()
    data = small(root)
    data.prepare_data()
    splits: tuple[Split, ...] = ("train", "val")
    checked = [data.scenes(split) for split in splits]
    np.save(root / "train" / "label" / "0.npy", np.zeros(3))
    data.setup("fit")
    assert [data.scenes(split) for split in splits] == checked
