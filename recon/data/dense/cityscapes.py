"""CityScapes: street scenes with classes and disparity.

Cordts et al., "The Cityscapes Dataset for Semantic Urban Scene Understanding", CVPR 2016; 7
classes, or the 19 of its own benchmark.
"""

from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

from recon.data.dense.layout import label_folders
from recon.data.dense.module import DenseDataModule
from recon.data.dense.quantities import Disparity, Labels
from recon.tasks.per_pixel import depth, segmentation

CLASS_NAMES = {
    7: ("flat", "construction", "object", "nature", "sky", "human", "vehicle"),
    19: (
        *("road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation"),
        *("terrain", "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"),
    ),
}
"""The names of the 7 categories and of the 19 classes, in the order of their labels."""


class CityScapes(DenseDataModule):
    """Street scenes with 7 or 19 classes, and with inverse depth as the task ``depth``.

    Batches are ``(image, {"segmentation": ..., "depth": ...})``: images ``(B, 3, H, W)``, float32
    in [0, 1]; labels ``(B, H, W)``, int64, -1 without truth; inverse depths or disparities
    ``(B, 1, H, W)``, float32, NaN without truth. Validation and test both give the val split, as in
    the published work.

    >>> data = CityScapes(root="cityscapes", classes=19)
    >>> data.dataset_name
    'CityScapes(classes=19, height=128, width=256)'

    Args:
        root: Folder of the layout that ``recon data prepare cityscapes`` makes
            (:mod:`recon.data.dense.layout`); labels are in ``label_7`` or ``label``, and 19 classes
            in ``label_19``.
        classes: Number of classes, 7 or 19.
        batch_size: Batch size of training, in each process.
        tasks: Names of the tasks to give; only their folders are read.
        height: Height of the scenes, in pixels.
        width: Width of the scenes, in pixels.
        loading: ``eval_batch_size``, ``augment``, ``aggregation``, ``num_workers``,
            ``shuffle_seed`` and ``held_out``, as
            :class:`~recon.data.dense.module.DenseDataModule` takes them.

    Raises:
        ValueError: Another number of classes, a number that is too small, or an unknown or repeated
            task; from ``prepare_data`` on: a file is missing, cannot be read, or has the wrong
            content.
    """

    expected: ClassVar = {"train": 2975, "val": 500}
    cure = "`recon data prepare cityscapes` makes the layout"

    def __init__(
        self,
        root: str | Path,
        classes: Literal[7, 19] = 7,
        batch_size: int = 8,
        *,
        tasks: tuple[str, ...] = ("segmentation", "depth"),
        height: int = 128,
        width: int = 256,
        **loading: Any,
    ) -> None:
        if classes not in (7, 19):
            raise ValueError(f"classes is {classes}; CityScapes has 7 or 19")
        self.classes = classes
        super().__init__(
            root=root,
            targets={
                "segmentation": (
                    Labels(classes, label_folders(classes)),
                    partial(segmentation, classes=classes, class_names=CLASS_NAMES[classes]),
                ),
                "depth": (Disparity(), depth),
            },
            tasks=tasks,
            height=height,
            width=width,
            batch_size=batch_size,
            **loading,
        )

    @property
    def dataset_name(self) -> str:
        return super().dataset_name.replace("(", f"(classes={self.classes}, ", 1)
