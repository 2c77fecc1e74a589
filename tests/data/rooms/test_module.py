import re
from pathlib import Path

import numpy as np
import pytest
import torch

from recon.data.rooms import folder
from recon.data.rooms.module import Rooms
from recon.data.rooms.sample import render_room


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "recon"


def small(**options: object) -> Rooms:
    sizes = {"train_size": 5, "val_size": 3, "height": 24, "width": 32, "batch_size": 2, "eval_batch_size": 2}
    data = Rooms(**{**sizes, **options})
    data.prepare_data()
    data.setup("fit")
    return data


def test_batches_hold_the_rooms_with_nan_where_the_sensor_lost_them() -> None:
    data = small()
    batches = list(data.val_dataloader())
    assert [len(image) for image, _ in batches] == [2, 1]
    image, targets = batches[1]
    expected = render_room(0, "val", 2, 24, 32)
    torch.testing.assert_close(image[0], torch.from_numpy(expected["image"]).permute(2, 0, 1) / 255)
    torch.testing.assert_close(targets["segmentation"][0], torch.from_numpy(expected["label"]).long())
    lost = torch.from_numpy(expected["depth"] == 0)
    assert 0 < lost.sum() < lost.numel() / 2
    for task, name, channels in (("depth", "depth", 1), ("normals", "normal", 3)):
        assert targets[task].shape == (1, channels, 24, 32)
        truth = torch.from_numpy(expected[name].reshape(24, 32, channels)).permute(2, 0, 1)
        assert targets[task][0].isnan().equal(lost.expand(channels, -1, -1))
        torch.testing.assert_close(targets[task][0][:, ~lost], truth[:, ~lost])


def test_it_offers_its_tasks_its_shape_and_its_name() -> None:
    data = small()
    assert [(task.name, task.outputs) for task in data.tasks] == [("segmentation", 7), ("depth", 1), ("normals", 3)]
    image, targets = next(iter(data.train_dataloader()))
    assert image.shape == (2, *data.input_shape) == (2, 3, 24, 32)
    assert image.dtype == torch.float32
    assert list(targets) == [task.name for task in data.tasks]
    assert data.dataset_name == "Rooms(train_size=5, val_size=3, height=24, width=32, seed=0, depth='metres')"


def test_the_two_task_version_gives_inverse_depth_of_the_same_files() -> None:
    metres, inverse = small(), small(tasks=("segmentation", "depth"), depth="inverse")
    assert inverse.root == metres.root
    (image, targets), (same, both) = (next(iter(data.val_dataloader())) for data in (metres, inverse))
    assert list(both) == ["segmentation", "depth"]
    assert image.equal(same)
    torch.testing.assert_close(both["depth"], 1 / targets["depth"], equal_nan=True)
    assert inverse.dataset_name != metres.dataset_name


def test_a_view_that_enlarges_brings_depth_nearer_and_raises_its_inverse() -> None:
    metres, inverse = (small(depth=depth, augment=True, shuffle_seed=0) for depth in ("metres", "inverse"))
    for (_, near), (_, far) in zip(metres.train_dataloader(), inverse.train_dataloader(), strict=True):
        torch.testing.assert_close(far["depth"], 1 / near["depth"], equal_nan=True)
    plain = torch.cat([targets["depth"] for _, targets in small(shuffle_seed=0).train_dataloader()])
    enlarged = torch.cat([targets["depth"] for _, targets in metres.train_dataloader()])
    assert enlarged.nanmean() < 0.95 * plain.nanmean()


def test_by_default_rooms_are_kept_in_the_users_cache_and_rendered_once(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = small()
    assert first.root.parent == cache
    monkeypatch.setattr(folder, "render_room", lambda *_: pytest.fail("rendered again"))
    second = small()
    for (image, _), (again, _) in zip(first.train_dataloader(), second.train_dataloader(), strict=True):
        assert image.equal(again)


def test_other_rooms_are_kept_apart() -> None:
    names = ("train_size", "val_size", "height", "width", "seed")
    assert len({Rooms(**{name: 9}).root for name in names} | {Rooms().root}) == 6


def test_a_root_of_ones_own_is_used_and_one_of_other_scenes_refused(tmp_path: Path, cache: Path) -> None:
    data = small(root=tmp_path / "mine")
    assert len(list((tmp_path / "mine" / "train" / "normal").glob("*.npy"))) == 5
    assert not cache.exists()
    with pytest.raises(ValueError, match=r"mine holds other scenes \(seed 0, not 1\)"):
        small(root=data.root, seed=1)


def test_a_damaged_file_is_named_with_the_cure() -> None:
    data = small()
    file = data.root / "val" / "depth" / "1.npy"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(
        ValueError, match=rf"{re.escape(str(file))}.*remove that folder, and the rooms are rendered again"
    ):
        small()


def test_rooms_of_the_two_splits_differ() -> None:
    data = small(train_size=3, val_size=3)
    images = [np.load(path) for path in data.root.rglob("image/*.npy")]
    assert len(np.unique(np.stack(images), axis=0)) == 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tasks": ("segmentation", "normal")}, r"unknown task 'normal'; nearest: 'normals'"),
        ({"depth": "inverted"}, r"unknown depth 'inverted'; nearest: 'inverse'"),
        ({"val_size": 0}, r"val_size is 0; it must be at least 1"),
        ({"seed": -1}, r"seed is -1; it must not be negative"),
        ({"height": 0}, r"height is 0; it must be at least 1"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_rendered(
    options: dict[str, object], message: str, cache: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        small(**options)
    assert not cache.exists()
