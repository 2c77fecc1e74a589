"""PASCAL-Context: photographs with classes, parts of people, normals, saliency and edges.

Chen et al., "Detect What You Can", and Mottaghi et al., "The Role of Context", CVPR 2014. The
protocol and its five tasks are those of Maninis, Radosavovic & Kokkinos, "Attentive Single-Tasking
of Multiple Tasks", CVPR 2019; normals and saliency there are the outputs of other networks.
"""

from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from recon.data.dense.module import DenseDataModule
from recon.data.dense.quantities import Labels, Normals, Quantity
from recon.tasks.masks import edges, saliency
from recon.tasks.per_pixel import PART_NAMES, normals, parts, segmentation

CLASS_NAMES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
CLASSES = len(CLASS_NAMES)


QUANTITIES: dict[str, Quantity] = {
    "segmentation": Labels(CLASSES),
    "parts": Labels(len(PART_NAMES), ["parts"]),
    "normals": Normals(),
    "saliency": Labels(2, ["saliency"]),
    "edges": Labels(2, ["edges"]),
}
"""Task -> the quantity of its targets."""


class PascalContext(DenseDataModule):
    """Photographs with 21 classes, 7 parts of people, surface normals, saliency and edges.

    Batches are ``(image, {"segmentation": ..., "parts": ..., "normals": ..., "saliency": ...,
    "edges": ...})``: images ``(B, 3, S, S)``, float32 in [0, 1]; normals ``(B, 3, S, S)``, float32
    unit vectors, NaN without truth; all others labels ``(B, S, S)``, int64, -1 without truth. The
    margin around a photograph has no truth, an image without people has no truth in ``parts``, and
    normals are there for indoor kinds of things only. Validation and test both give the val split,
    as in the published work.

    >>> data = PascalContext(root="pascal", tasks=("parts", "edges"))
    >>> [(task.name, task.outputs) for task in data.tasks], data.input_shape
    ([('parts', 7), ('edges', 1)], (3, 512, 512))

    Args:
        root: Folder of the layout that ``recon data prepare pascal_context`` makes
            (:mod:`recon.data.dense.layout`).
        batch_size: Batch size of training, in each process.
        tasks: Names of the tasks to give; only their folders are read.
        size: Height and width of the scenes, in pixels.
        loading: ``eval_batch_size``, ``augment``, ``aggregation``, ``num_workers``,
            ``shuffle_seed`` and ``held_out``, as
            :class:`~recon.data.dense.module.DenseDataModule` takes them.

    Raises:
        ValueError: A number that is too small, or an unknown or repeated task; from
            ``prepare_data`` on: a file is missing, cannot be read, or has the wrong content.
    """

    expected: ClassVar = {"train": 4998, "val": 5105}
    cure = "`recon data prepare pascal_context` makes the layout"
    scales: ClassVar = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)

    def __init__(
        self,
        root: str | Path,
        batch_size: int = 16,
        *,
        tasks: tuple[str, ...] = ("segmentation", "parts", "normals", "saliency", "edges"),
        size: int = 512,
        **loading: Any,
    ) -> None:
        super().__init__(
            root=root,
            targets={
                "segmentation": (
                    QUANTITIES["segmentation"],
                    partial(segmentation, classes=CLASSES, class_names=CLASS_NAMES),
                ),
                "parts": (QUANTITIES["parts"], parts),
                "normals": (QUANTITIES["normals"], normals),
                "saliency": (QUANTITIES["saliency"], saliency),
                "edges": (QUANTITIES["edges"], edges),
            },
            tasks=tasks,
            height=size,
            width=size,
            batch_size=batch_size,
            **loading,
        )
