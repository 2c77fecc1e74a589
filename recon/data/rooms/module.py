"""Built-in rooms with classes, depth and surface normals, rendered on the spot. No download."""

from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from torch import Tensor

from recon.data.cache import user_cache
from recon.data.dense.module import DenseDataModule, TaskKind
from recon.data.dense.quantities import Depth, Disparity, Labels, Normals, Quantity
from recon.data.held_out import shown
from recon.data.rooms.folder import RoomFolder
from recon.data.rooms.room import CLASSES
from recon.errors import unknown_name
from recon.tasks.per_pixel import depth as depth_task
from recon.tasks.per_pixel import normals, segmentation

DepthUnit = Literal["metres", "inverse"]


class Rooms(DenseDataModule):
    """Ray-cast rooms with 7 classes, exact depth and exact surface normals.

    Pixels are missing as a sensor loses them. Batches are
    ``(image, {"segmentation": ..., "depth": ..., "normals": ...})``: images ``(B, 3, H, W)``,
    float32 in [0, 1]; labels ``(B, H, W)``, int64; depths ``(B, 1, H, W)`` and unit normals
    ``(B, 3, H, W)``, float32, NaN where the sensor lost them. Validation and test both give the val
    split. Train and val rooms come from separate random streams; a smaller set is the beginning of
    a larger one.

    The two-task version in the shape of CityScapes:

    >>> data = Rooms(tasks=("segmentation", "depth"), depth="inverse")
    >>> [(task.name, task.outputs) for task in data.tasks], data.input_shape
    ([('segmentation', 7), ('depth', 1)], (3, 96, 128))

    Args:
        train_size: Number of training rooms.
        val_size: Number of validation rooms.
        height: Height of the images, in pixels.
        width: Width of the images, in pixels.
        seed: Seed of the rooms.
        root: Folder for the files (:mod:`recon.data.rooms.folder`): new, empty, or of the same
            rooms. By default a folder in the user's cache (on Linux ``~/.cache/recon``) whose
            name holds everything that the rooms depend on.
        tasks: Names of the tasks to give; only their folders are read.
        depth: Unit of the task ``depth``: ``"metres"`` along the optical axis, or their
            ``"inverse"``.
        batch_size: Batch size of training, in each process.
        eval_batch_size: Batch size of validation and test, in each process.
        augment: Whether training shows random views of the scenes
            (:mod:`recon.data.dense.augmentation`).
        loading: ``aggregation``, ``num_workers``, ``shuffle_seed`` and ``held_out``, as
            :class:`~recon.data.dense.module.DenseDataModule` takes them.

    Raises:
        ValueError: A number that is too small, or an unknown or repeated name; from
            ``prepare_data`` on: the root is of something else, and stays as it is.
    """

    cure = "remove that folder, and the rooms are rendered again"

    def __init__(
        self,
        train_size: int = 1000,
        val_size: int = 200,
        height: int = 96,
        width: int = 128,
        seed: int = 0,
        root: str | Path | None = None,
        tasks: tuple[str, ...] = ("segmentation", "depth", "normals"),
        depth: DepthUnit = "metres",
        batch_size: int = 8,
        eval_batch_size: int = 32,
        augment: bool = False,
        **loading: Any,
    ) -> None:
        for name, size in (("train_size", train_size), ("val_size", val_size)):
            if size < 1:
                raise ValueError(f"{name} is {size}; it must be at least 1")
        if seed < 0:
            raise ValueError(f"seed is {seed}; it must not be negative")
        self.rooms = RoomFolder(train_size, val_size, height, width, seed)
        self.depth = depth
        super().__init__(
            root=user_cache() / self.rooms.name if root is None else root,
            targets=_targets(depth),
            tasks=tasks,
            height=height,
            width=width,
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            augment=augment,
            **loading,
        )

    @property
    def dataset_name(self) -> str:
        rooms = self.rooms
        return (
            f"Rooms(train_size={rooms.train_size}, val_size={rooms.val_size}, height={rooms.height}, "
            f"width={rooms.width}, seed={rooms.seed}, depth={self.depth!r}{shown(self.held_out)})"
        )

    def prepare_data(self) -> None:
        """Render the missing rooms."""
        self.rooms.write(self.root)


def _targets(depth: DepthUnit) -> dict[str, tuple[Quantity, TaskKind]]:
    if depth not in get_args(DepthUnit):
        raise unknown_name("depth", depth, get_args(DepthUnit))
    classes = len(CLASSES)
    return {
        "segmentation": (Labels(classes), partial(segmentation, classes=classes, class_names=CLASSES)),
        "depth": (Depth() if depth == "metres" else _InverseDepth(), depth_task),
        "normals": (Normals(), normals),
    }


class _InverseDepth(Disparity):
    """The inverse of depth stored in metres; NaN without truth."""

    def tensor(self, stored: np.ndarray) -> Tensor:
        return super().tensor(stored).reciprocal_()
