import re
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))  # for small_pascal

from small_pascal import FRAME, prepare_pascal

from recon.data import PascalContext
from recon.data.dense.augmentation import RandomViews

TASKS = ("segmentation", "parts", "normals", "saliency", "edges")


@pytest.fixture(autouse=True)
def few_scenes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PascalContext, "expected", {"train": 4, "val": 1})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return prepare_pascal(tmp_path)


def small(root: Path, **options: Any) -> PascalContext:
    return PascalContext(root, size=FRAME, **{"batch_size": 4, **options})


def test_tasks_and_shape_are_known_without_any_data(tmp_path: Path) -> None:
    data = PascalContext(tmp_path / "nowhere")
    assert [(task.name, task.outputs) for task in data.tasks] == list(zip(TASKS, (21, 7, 3, 1, 1), strict=True))
    assert data.input_shape == (3, 512, 512)
    assert data.dataset_name == "PascalContext(height=512, width=512)"


def test_a_batch_has_the_form_that_losses_and_metrics_take(root: Path) -> None:
    data = small(root, augment=False)
    data.prepare_data()
    x, targets = next(iter(data.train_dataloader()))
    assert x.shape == (4, 3, FRAME, FRAME)
    assert list(targets) == list(TASKS)
    for task in data.tasks:
        target = targets[task.name]
        prediction = torch.randn(4, task.outputs, FRAME, FRAME, generator=torch.Generator().manual_seed(0))
        assert task.count(target) > 0
        assert task.loss(prediction, target).isfinite()
        for metric in task.metrics().values():
            metric.update(prediction, target)
            assert metric.compute().isfinite()
        margin = target[..., 0]  # each photograph is narrower than its frame
        assert ((margin == -1) | margin.isnan()).all()


def test_a_mirror_turns_normals_and_moves_labels(root: Path) -> None:
    data = small(root, batch_size=4, shuffle_seed=3)
    plain = small(root, augment=False, batch_size=4, shuffle_seed=3)
    (_, seen), (_, stored) = next(iter(data.train_dataloader())), next(iter(plain.train_dataloader()))
    order = np.random.default_rng([3, 0]).permutation(4)
    views = [RandomViews((FRAME, FRAME), 3)(0, int(index)) for index in order]
    mirrored = [place for place, view in enumerate(views) if view.mirrored and view.scale == 1]
    assert mirrored
    for place in mirrored:
        for task in ("segmentation", "parts", "saliency", "edges"):
            assert torch.equal(seen[task][place], stored[task][place].flip(-1))
        flipped = stored["normals"][place].flip(-1) * torch.tensor([-1.0, 1.0, 1.0]).view(3, 1, 1)
        torch.testing.assert_close(seen["normals"][place], flipped, equal_nan=True)


def test_only_the_folders_of_the_tasks_are_read(root: Path) -> None:
    shutil.rmtree(root / "train" / "edges")
    tasks = ("saliency", "parts")
    assert list(next(iter(small(root, tasks=tasks).train_dataloader()))[1]) == list(tasks)
    message = f"{root / 'train'} has no folder 'edges'; `recon data prepare pascal_context` makes the layout"
    with pytest.raises(ValueError, match=re.escape(message)):
        small(root).prepare_data()
