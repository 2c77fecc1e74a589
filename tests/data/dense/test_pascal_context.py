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
from recon.data.batches import ShuffledBatches
from recon.data.dense.augmentation import GREY, RandomViews

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


def test_a_mirror_turns_normals_and_moves_labels(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PascalContext, "scales", (1.0,))
    data = small(root, batch_size=4, shuffle_seed=3)
    plain = small(root, augment=False, batch_size=4, shuffle_seed=3)
    (_, seen), (_, stored) = next(iter(data.train_dataloader())), next(iter(plain.train_dataloader()))
    order = np.random.default_rng([3, 0]).permutation(4)
    views = [RandomViews((FRAME, FRAME), 3, (1.0,))(0, int(index)) for index in order]
    mirrored = [place for place, view in enumerate(views) if view.mirrored]
    assert 0 < len(mirrored) < 4
    for place in mirrored:
        for task in ("segmentation", "parts", "saliency", "edges"):
            assert torch.equal(seen[task][place], stored[task][place].flip(-1))
        flipped = stored["normals"][place].flip(-1) * torch.tensor([-1.0, 1.0, 1.0]).view(3, 1, 1)
        torch.testing.assert_close(seen["normals"][place], flipped, equal_nan=True)


def test_views_have_the_scales_of_the_protocol(root: Path) -> None:
    data = small(root, shuffle_seed=0)
    views = RandomViews((FRAME, FRAME), 0, (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0))
    assert min(views(0, index).scale for index in range(4)) < 1
    loader, order = data.train_dataloader(), ShuffledBatches(4, 4, seed=0)
    found = next(iter(loader))
    expected = data.scenes("train").through(views)[(0, next(iter(order)).tolist())]
    torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)
    beside = (found[0] == GREY).all(1)
    assert beside.any()
    for task in TASKS:
        target = found[1][task]
        known = target[:, 0].isfinite() if task == "normals" else target >= 0
        assert known.any() and not known[beside].any()


def test_only_the_folders_of_the_tasks_are_read(root: Path) -> None:
    shutil.rmtree(root / "train" / "edges")
    tasks = ("saliency", "parts")
    assert list(next(iter(small(root, tasks=tasks).train_dataloader()))[1]) == list(tasks)
    message = f"{root / 'train'} has no folder 'edges'; `recon data prepare pascal_context` makes the layout"
    with pytest.raises(ValueError, match=re.escape(message)):
        small(root).prepare_data()
