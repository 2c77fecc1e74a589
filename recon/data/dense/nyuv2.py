"""NYUv2: indoor scenes with classes, depth and surface normals.

Silberman, Hoiem, Kohli & Fergus, "Indoor Segmentation and Support Inference from RGBD Images", ECCV
2012; the 13 classes of Couprie et al., "Indoor Semantic Segmentation using depth information", ICLR
2013.
"""

from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from recon.data.dense.module import DenseDataModule
from recon.data.dense.quantities import Depth, Labels, Normals
from recon.tasks.per_pixel import depth, normals, segmentation

CLASS_NAMES = (
    *("bed", "books", "ceiling", "chair", "floor", "furniture", "objects", "picture", "sofa", "table", "tv", "wall"),
    "window",
)
CLASSES = len(CLASS_NAMES)


class NYUv2(DenseDataModule):
    """Indoor scenes with 13 classes, depth in metres and surface normals.

    Batches are ``(image, {"segmentation": ..., "depth": ..., "normals": ...})``: images
    ``(B, 3, H, W)``, float32 in [0, 1]; labels ``(B, H, W)``, int64, -1 without truth; depths
    ``(B, 1, H, W)`` and unit normals ``(B, 3, H, W)``, float32, NaN without truth. Validation and
    test both give the val split, as in the published work.

    >>> data = NYUv2(root="nyuv2", tasks=("depth", "normals"))
    >>> [(task.name, task.outputs) for task in data.tasks]
    [('depth', 1), ('normals', 3)]

    Args:
        root: Folder of the layout that ``recon data prepare nyuv2`` makes
            (:mod:`recon.data.dense.layout`).
        batch_size: Batch size of training, in each process.
        tasks: Names of the tasks to give; only their folders are read.
        height: Height of the scenes, in pixels.
        width: Width of the scenes, in pixels.
        loading: ``eval_batch_size``, ``augment``, ``aggregation``, ``num_workers``,
            ``shuffle_seed`` and ``held_out``, as
            :class:`~recon.data.dense.module.DenseDataModule` takes them.

    Raises:
        ValueError: A number that is too small, or an unknown or repeated task; from
            ``prepare_data`` on: a file is missing, cannot be read, or has the wrong content.
    """

    expected: ClassVar = {"train": 795, "val": 654}
    cure = "`recon data prepare nyuv2` makes the layout"

    def __init__(
        self,
        root: str | Path,
        batch_size: int = 2,
        *,
        tasks: tuple[str, ...] = ("segmentation", "depth", "normals"),
        height: int = 288,
        width: int = 384,
        **loading: Any,
    ) -> None:
        super().__init__(
            root=root,
            targets={
                "segmentation": (
                    Labels(CLASSES),
                    partial(segmentation, classes=CLASSES, class_names=CLASS_NAMES),
                ),
                "depth": (Depth(), depth),
                "normals": (Normals(), normals),
            },
            tasks=tasks,
            height=height,
            width=width,
            batch_size=batch_size,
            **loading,
        )
