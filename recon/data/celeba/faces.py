"""Prepared faces of one split: blocks of images in memory-mapped files.

``ROOT/{train,val,test}/image/{i}.npy`` holds the images of a block, ``(n, size, size, 3)``, uint8,
and ``label/{i}.npy`` their attributes, ``(n, 40)``, int8, 1 or 0. Blocks are numbered from 0. A
batch reads its own images alone, so the set need not fit into memory.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from recon.data.batches import Batch
from recon.data.celeba.attributes import ATTRIBUTES
from recon.files.reading import open_regular

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")


class Faces(Dataset[Batch]):
    """Images and their labels, indexed by batches.

    >>> images = [np.zeros((2, 8, 8, 3), np.uint8), np.full((1, 8, 8, 3), 255, np.uint8)]
    >>> faces = Faces(images, torch.tensor([[1], [0], [1]]), ["Smiling"])
    >>> x, targets = faces[torch.tensor([2, 0])]
    >>> x[:, 0, 0, 0], targets
    (tensor([1., 0.]), {'Smiling': tensor([1, 1])})

    Args:
        images: Blocks of images, ``(n, H, W, 3)``, uint8.
        labels: ``(N, K)``, integers, of all blocks one after another.
        tasks: Names of the K tasks.
    """

    def __init__(self, images: Sequence[np.ndarray], labels: Tensor, tasks: Sequence[str]) -> None:
        self.images = list(images)
        self.labels = labels
        self.tasks = tuple(tasks)
        self.ends = np.cumsum([len(block) for block in images])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, indices: Tensor) -> Batch:
        """Read a batch.

        Args:
            indices: ``(B,)``, integers.

        Returns:
            Pixels ``(B, 3, H, W)``, float32 in [0, 1], and labels ``(B,)`` by task.
        """
        wanted = indices.numpy()
        blocks = np.searchsorted(self.ends, wanted, side="right")
        pixels = np.empty((len(wanted), *self.images[0].shape[1:]), np.uint8)
        for block in np.unique(blocks):
            here = blocks == block
            first = self.ends[block] - len(self.images[block])
            pixels[here] = self.images[block][wanted[here] - first]
        x = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous().float().div_(255)
        labels = self.labels.index_select(0, indices).long()
        return x, dict(zip(self.tasks, labels.unbind(1), strict=True))


def block_files(directory: Path) -> list[tuple[Path, Path]]:
    """The files of images and of labels of each block of a split.

    Raises:
        ValueError: There is none, or one of the two is missing.
    """
    folders = directory / "image", directory / "label"
    blocks = max(len(list(folder.glob("[!.]*.npy"))) for folder in folders)
    pairs = [(folders[0] / f"{block}.npy", folders[1] / f"{block}.npy") for block in range(max(1, blocks))]
    for path in (path for pair in pairs for path in pair):
        if not path.is_file():
            raise ValueError(f"{path} is missing")
    return pairs


def open_faces(directory: Path, size: int, columns: Mapping[str, int]) -> Faces:
    """Open the blocks of a split, and check the shapes of all and the labels.

    Args:
        directory: The split's folder.
        size: Height and width that the images must have.
        columns: Task -> column of its labels.

    Raises:
        ValueError: A file is missing, cannot be read, or holds something else.
    """
    images, labels = [], []
    for image_file, label_file in block_files(directory):
        images.append(_mapped(image_file))
        if images[-1].shape[1:] != (size, size, 3) or images[-1].dtype != np.uint8:
            raise ValueError(
                f"{image_file} has shape {images[-1].shape} and type {images[-1].dtype}; expected "
                f"(n, {size}, {size}, 3) and uint8"
            )
        labels.append(_labels(label_file, len(images[-1])))
    chosen = np.concatenate(labels)[:, list(columns.values())]
    return Faces(images, torch.from_numpy(chosen), list(columns))


def _labels(path: Path, images: int) -> np.ndarray:
    labels = np.array(_mapped(path))
    if labels.shape != (images, len(ATTRIBUTES)):
        raise ValueError(f"{path} has shape {labels.shape}; expected {(images, len(ATTRIBUTES))}")
    if len(wrong := labels[(labels != 0) & (labels != 1)]):
        raise ValueError(f"{path} holds the label {wrong[0]}; a label is 0 or 1")
    return labels


def _mapped(path: Path) -> np.ndarray:
    """A file's array, mapped into memory."""
    try:
        open_regular(path).close()
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, EOFError, ValueError, SyntaxError) as error:
        raise ValueError(f"{path} is truncated or no .npy file of numbers ({error})") from error
    if not isinstance(array, np.ndarray) or array.ndim == 0 or array.dtype.kind not in "iu":
        raise ValueError(f"{path} is no .npy file of whole numbers")
    return array
