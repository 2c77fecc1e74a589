"""A dense data set of one's own declares its tasks: quantities and kinds of tasks that Recon does not know."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits
from torchmetrics import MeanMetric, Metric

from recon.data.dense import DenseDataModule
from recon.data.dense.augmentation import View, view_labels
from recon.data.dense.quantities import Depth, Labels, Quantity
from recon.models import SegNet
from recon.tasks import Aggregation, Task, depth, segmentation
from recon.training import MultiTaskModule


class Edges(Quantity):
    """Whether there is an edge at a pixel: stored ``(H, W)``, given as ``(1, H, W)``, float32."""

    channels = 1

    def __init__(self) -> None:
        super().__init__(["edge"])

    def tensor(self, stored: np.ndarray) -> Tensor:
        return torch.from_numpy(stored.astype(np.float32))[None]

    def seen(self, window: Tensor, view: View) -> Tensor:
        return view_labels(window[0], view)[None]


def edges(name: str, aggregation: Aggregation) -> Task:
    def metrics() -> dict[str, Metric]:
        return {f"mean_of_{aggregation}": MeanMetric()}

    return Task(name, binary_cross_entropy_with_logits, metrics, outputs=1)


class Kitchens(DenseDataModule):
    def __init__(self, root: Path, tasks: tuple[str, ...] = ("depth", "outlines", "objects"), **loading: Any) -> None:
        super().__init__(
            root=root,
            targets={
                "outlines": (Edges(), edges),
                "depth": (Labels(13), partial(segmentation, classes=13)),
                "objects": (Depth(), depth),
            },
            tasks=tasks,
            height=32,
            width=48,
            batch_size=2,
            **loading,
        )


@pytest.fixture
def root(write_layout: Callable[..., Path]) -> Path:
    root = write_layout(size=(32, 48))
    for split in ("train", "val"):
        for path in sorted((root / split / "label").iterdir()):
            (root / split / "edge").mkdir(exist_ok=True)
            np.save(root / split / "edge" / path.name, np.load(path) == 0)
    return root


def test_a_task_of_a_new_kind_is_trained_beside_known_ones_under_any_name(root: Path) -> None:
    data = Kitchens(root)
    data.prepare_data()
    batch = next(iter(data.train_dataloader()))
    inputs, targets = batch
    assert inputs.shape == (2, 3, 32, 48)
    assert {task: (values.dtype, tuple(values.shape)) for task, values in targets.items()} == {
        "depth": (torch.int64, (2, 32, 48)),
        "outlines": (torch.float32, (2, 1, 32, 48)),
        "objects": (torch.float32, (2, 1, 32, 48)),
    }
    losses = MultiTaskModule(SegNet(width=2), data.tasks).losses(batch)
    assert list(losses) == ["depth", "outlines", "objects"]
    assert all(loss.isfinite() for loss in losses.values())


def test_kinds_of_ones_own_are_told_how_metrics_are_aggregated(root: Path) -> None:
    [task] = Kitchens(root, tasks=("outlines",), aggregation="per_batch").tasks
    assert list(task.metrics()) == ["mean_of_per_batch"]


def test_loaders_take_what_the_data_set_passes_on(root: Path) -> None:
    data = Kitchens(root, eval_batch_size=3, shuffle_seed=7, augment=False)
    assert [len(inputs) for inputs, _ in data.val_dataloader()] == [3]
    assert (data.shuffle_seed, data.augment, data.num_workers) == (7, False, 0)
    with pytest.raises(TypeError, match="batchsize"):
        Kitchens(root, batchsize=3)
