import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from recon.data import CityScapes
from recon.data.dense.augmentation import RandomViews

SIZE = (6, 8)
WriteLayout = Callable[..., Path]


@pytest.fixture(autouse=True)
def few_scenes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CityScapes, "expected", {"train": 5, "val": 3})


def small(root: Path, **options: Any) -> CityScapes:
    return CityScapes(root=root, height=6, width=8, **options)


@pytest.mark.parametrize("classes", [7, 19])
def test_tasks_and_shape_are_known_without_any_data(tmp_path: Path, classes: Any) -> None:
    data = CityScapes(tmp_path / "nowhere", classes=classes)
    assert [(task.name, task.outputs) for task in data.tasks] == [("segmentation", classes), ("depth", 1)]
    assert data.input_shape == (3, 128, 256)
    assert data.dataset_name == f"CityScapes(classes={classes}, height=128, width=256)"


def test_another_number_of_classes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="classes is 8; CityScapes has 7 or 19"):
        CityScapes(tmp_path, classes=8)  # type: ignore[arg-type]


@pytest.mark.parametrize(("classes", "folder"), [(7, "label"), (7, "label_7"), (19, "label_19")])
def test_labels_are_read_from_the_folder_of_their_classes(write_layout: WriteLayout, classes: Any, folder: str) -> None:
    root = write_layout(classes=classes, label=folder)
    data = small(root, classes=classes)
    data.prepare_data()
    _, targets = next(iter(data.val_dataloader()))
    expected = np.stack([np.load(root / "val" / folder / f"{index}.npy") for index in range(3)])
    np.testing.assert_array_equal(targets["segmentation"], expected)


def test_labels_of_7_classes_are_not_taken_for_19(write_layout: WriteLayout) -> None:
    root = write_layout(classes=7)
    with pytest.raises(ValueError, match=re.escape("no folder 'label_19'; `recon data prepare cityscapes` makes")):
        small(root, classes=19).prepare_data()


def test_normals_are_no_task(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown task 'normals'"):
        small(tmp_path, tasks=("normals",))


def test_disparity_grows_with_the_scale_of_a_view(write_layout: WriteLayout) -> None:
    root = write_layout(classes=7)
    for index in range(5):
        np.save(root / "train" / "depth" / f"{index}.npy", np.full((*SIZE, 1), 0.25, np.float32))
    data = small(root, shuffle_seed=2, batch_size=5)
    _, targets = next(iter(data.train_dataloader()))
    order = np.random.default_rng([2, 0]).permutation(5)
    scales = torch.tensor([RandomViews(SIZE, 2)(0, int(index)).scale for index in order])
    assert len(scales.unique()) > 1
    torch.testing.assert_close(targets["depth"], (0.25 * scales).view(5, 1, 1, 1).expand(5, 1, *SIZE))
