import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

import recon.data
from recon.data import Glyphs, Rooms, Yeast
from recon.data.batches import ShuffledBatches
from recon.data.held_out import training_loaders


def indices(loader: Any) -> list[int]:
    return torch.cat(list(loader.sampler)).tolist()


@pytest.mark.parametrize("seed", [0, 1])
def test_both_parts_make_up_the_training_samples_and_share_none(seed: int) -> None:
    loaders = Glyphs(train_size=64, test_size=8, batch_size=8, seed=seed, held_out=0.25).train_dataloader()
    assert isinstance(loaders, dict)
    trained, held_out = (indices(loaders[name]) for name in ("train", "validation"))
    assert sorted(trained + held_out) == list(range(64))
    assert (len(loaders["train"]), len(loaders["validation"])) == (6, 2)


def test_the_held_out_samples_follow_the_seed_of_the_data_and_no_other() -> None:
    def held_out(**options: Any) -> list[int]:
        loaders = Glyphs(train_size=64, test_size=8, batch_size=8, held_out=0.25, **options).train_dataloader()
        assert isinstance(loaders, dict)
        return sorted(indices(loaders["validation"]))

    assert held_out() == held_out(shuffle_seed=5)
    assert held_out() != held_out(seed=1)


def test_batches_are_those_of_the_samples() -> None:
    data = Glyphs(train_size=32, test_size=8, batch_size=8, held_out=0.25)
    loaders = data.train_dataloader()
    assert isinstance(loaders, dict)
    whole = data.composites("train")
    for loader in loaders.values():
        for picked, (x, targets) in zip(loader.sampler, loader, strict=True):
            expected, labels = whole[picked]
            assert torch.equal(x, expected)
            assert torch.equal(targets["digit"], labels["digit"])


def test_each_epoch_has_an_order_of_its_own() -> None:
    batches = ShuffledBatches(4, 2, seed=0, among=torch.tensor([1, 3, 5, 7]))
    orders = []
    for epoch in range(2):
        batches.set_epoch(epoch)
        orders.append(torch.cat(list(batches)).tolist())
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1]) == [1, 3, 5, 7]


def test_rooms_are_held_out_too(tmp_path: Path) -> None:
    data = Rooms(train_size=8, val_size=2, height=16, width=24, root=tmp_path, batch_size=2, held_out=0.25)
    data.prepare_data()
    loaders = data.train_dataloader()
    assert isinstance(loaders, dict)
    picked = {name: [i for _, batch in loader.sampler for i in batch] for name, loader in loaders.items()}
    assert sorted(picked["train"] + picked["validation"]) == list(range(8))
    x, targets = next(iter(loaders["validation"]))
    assert x.shape == (2, 3, 16, 24)
    assert set(targets) == {"segmentation", "depth", "normals"}
    assert data.dataset_name.endswith("held_out=0.25)")


def test_without_a_share_there_is_one_loader_as_before() -> None:
    loader = Glyphs(train_size=16, test_size=8, batch_size=8).train_dataloader()
    assert isinstance(loader, DataLoader)
    assert sorted(indices(loader)) == list(range(16))
    assert "held_out" not in Glyphs().dataset_name
    assert Glyphs(held_out=0.1).dataset_name == "Glyphs(train_size=10000, test_size=2000, seed=0, held_out=0.1)"


@pytest.mark.parametrize("name", sorted({*recon.data.__all__} - {"PerTask"}))
def test_every_set_has_the_share_in_its_name(name: str) -> None:
    root = {} if name in ("Glyphs", "GlyphAttributes") else {"root": "DATA"}
    data = getattr(recon.data, name)(**root, held_out=0.25)
    assert re.search(r"(\(|, )held_out=0\.25\)$", data.dataset_name)


def test_the_share_stands_behind_the_seed_of_a_split() -> None:
    assert Yeast("DATA", split_seed=1, held_out=0.25).dataset_name == "Yeast(split_seed=1, held_out=0.25)"


@pytest.mark.parametrize("share", [-0.1, 0.6, "0.1", True])
def test_a_share_out_of_range_is_refused(share: Any) -> None:
    with pytest.raises(ValueError, match=r"held_out is .*; it must be a share of the training samples, a number in"):
        Glyphs(held_out=share)


def test_a_share_of_no_sample_is_refused() -> None:
    loader: Callable[..., Any] = DataLoader
    with pytest.raises(ValueError, match=r"held_out is 0\.01, of 10 training samples, which is 0; give a larger share"):
        training_loaders(loader, 10, 0.01, seed=0)
