import re
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from small_faces import PARTITION, face_labels

from recon.data import CelebA
from recon.data.celeba.attributes import TASKS
from recon.data.celeba.faces import SPLITS

EXPECTED = {"train": 5, "val": 2, "test": 3}


@pytest.fixture(autouse=True)
def few_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CelebA, "expected", EXPECTED)
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)


def small(root: Path, **options: Any) -> CelebA:
    return CelebA(root, **{"size": 4, "batch_size": 2, "eval_batch_size": 2, **options})


def test_tasks_and_shape_are_known_without_any_data(tmp_path: Path) -> None:
    data = CelebA(tmp_path / "nowhere")
    assert [task.name for task in data.tasks] == list(TASKS)
    assert {task.outputs for task in data.tasks} == {1}
    assert data.input_shape == (3, 64, 64)
    assert data.dataset_name == "CelebA(size=64)"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tasks": ("Smile",)}, "unknown attribute 'Smile' in CelebA; nearest: 'Smiling'"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"eval_batch_size": 0}, "eval_batch_size is 0"),
        ({"size": 0}, "size is 0"),
        ({"shuffle_seed": -1}, "shuffle_seed is -1"),
    ],
)
def test_what_cannot_be_is_refused_at_once(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        CelebA(tmp_path, **options)


def test_each_loader_gives_its_own_partition(prepared: Path) -> None:
    data = small(prepared, tasks=("Male", "Bald"))
    loaders = (data.train_dataloader(), data.val_dataloader(), data.test_dataloader())
    for number, (split, loader) in enumerate(zip(SPLITS, loaders, strict=True)):
        rows = [index for index, partition in enumerate(PARTITION) if partition == number]
        expected = (face_labels()[rows][:, [20, 4]] == 1).astype(int).tolist()
        found = [[int(male), int(bald)] for _, targets in loader for male, bald in zip(*targets.values(), strict=True)]
        if split == "train":
            assert len(found) == 4  # a last batch of one image is left out
            assert all(label in expected for label in found)
        else:
            assert found == expected
        x, targets = next(iter(loader))
        assert x.shape == (2, 3, 4, 4) and list(targets) == ["Male", "Bald"]


def test_the_order_of_training_follows_seed_and_epoch(prepared: Path) -> None:
    def first(epoch: int, seed: int) -> torch.Tensor:
        loader = small(prepared, shuffle_seed=seed).train_dataloader()
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        return torch.cat([x for x, _ in loader])

    assert torch.equal(first(0, 1), first(0, 1))
    assert not torch.equal(first(0, 1), first(1, 1))
    assert not torch.equal(first(0, 1), first(0, 2))


def test_files_are_named_below_the_root(prepared: Path) -> None:
    files = small(prepared).files_read()
    assert set(files) == {
        f"{split}/{kind}/{block}.npy"
        for split, blocks in (("train", 3), ("val", 1), ("test", 2))
        for kind in ("image", "label")
        for block in range(blocks)
    }
    assert all(path.is_file() for path in files.values())


def test_another_number_of_images_than_published_is_a_warning(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        small(prepared).prepare_data()
    monkeypatch.setattr(CelebA, "expected", {**EXPECTED, "val": 19_867})
    with pytest.warns(UserWarning, match=re.escape("val has 2 images, CelebA has 19867; results cannot be compared")):
        small(prepared).prepare_data()


@pytest.mark.parametrize("begin", ["prepare_data", "files_read"])
def test_official_files_are_refused_with_the_command_that_prepares_them(official: Path, begin: str) -> None:
    message = f"{official} holds no prepared CelebA; `recon data prepare celeba SOURCE --out {official}` makes it"
    with pytest.raises(ValueError, match=re.escape(message)):
        getattr(small(official), begin)()


def test_another_or_an_unfinished_data_set_is_refused(prepared: Path) -> None:
    (prepared / "preparing.json").write_text("{}")
    with pytest.raises(ValueError, match="is unfinished; the 'recon data prepare'"):
        small(prepared).prepare_data()
    (prepared / "preparing.json").unlink()
    (prepared / "manifest.json").write_text('{"dataset": "nyuv2"}')
    with pytest.raises(ValueError, match="holds 'nyuv2', not 'celeba'; `recon data prepare celeba` makes"):
        small(prepared).prepare_data()


def test_a_missing_split_and_another_size_are_refused_before_training(prepared: Path) -> None:
    with pytest.raises(ValueError, match=r"expected \(n, 64, 64, 3\) and uint8; `recon data prepare celeba` makes"):
        CelebA(prepared).prepare_data()
    shutil.rmtree(prepared / "test")
    with pytest.raises(ValueError, match=r"test/image/0.npy is missing; `recon data prepare celeba` makes"):
        small(prepared).prepare_data()


def test_a_share_of_the_training_images_is_held_out(prepared: Path) -> None:
    data = small(prepared, held_out=0.4)
    loaders = data.train_dataloader()
    assert isinstance(loaders, dict)
    picked = {name: torch.cat(list(loader.sampler)).tolist() for name, loader in loaders.items()}
    assert len(picked["train"]) + 1 == 3 and len(picked["validation"]) == 2  # a last batch of one image is left out
    assert not set(picked["train"]) & set(picked["validation"])
    assert data.dataset_name == "CelebA(size=4, held_out=0.4)"
