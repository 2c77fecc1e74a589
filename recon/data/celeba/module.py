"""CelebA: which of 40 attributes does a face have?

Liu, Luo, Wang & Tang, "Deep Learning Face Attributes in the Wild", ICCV 2015: 202,599 aligned faces
of 178 x 218 pixels; 162,770 for training, 19,867 for validation, 19,962 for test. Multi-task work
resizes them to 64 x 64 (Sener & Koltun, NeurIPS 2018) and takes each attribute for a task.
"""

import warnings
from pathlib import Path
from typing import ClassVar

import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader

from recon.data.batches import Batch
from recon.data.celeba.attributes import TASKS, columns_of
from recon.data.celeba.faces import SPLITS, Faces, Split, block_files, open_faces
from recon.data.dense.layout import MANIFEST, UNFINISHED
from recon.data.held_out import Loaders, check_held_out, shown, training_loaders
from recon.data.in_memory import check_seeds, check_sizes, ordered_loader, shuffled_loader
from recon.errors import number_of
from recon.files.reading import read_object
from recon.tasks.per_sample import binary


class CelebA(LightningDataModule):
    """Faces with up to 40 binary tasks, in the official three splits.

    Batches are ``(x, {"Smiling": ..., "Male": ..., ...})``: pixels ``(B, 3, 64, 64)``, float32 in
    [0, 1], and labels ``(B,)``, 1 or 0. ``val_dataloader`` gives the validation split, and
    ``test_dataloader`` the test split. A benchmark reports the test split.

    >>> data = CelebA(root="celeba", tasks=("Smiling", "Male"))
    >>> [task.name for task in data.tasks], data.input_shape
    (['Smiling', 'Male'], (3, 64, 64))

    Args:
        root: Folder that ``recon data prepare celeba`` makes.
        batch_size: Batch size of training, in each process.
        tasks: Names of the attributes to give, by default all 40. The one that is no identifier is
            called ``Five_o_Clock_Shadow``.
        size: Height and width of the prepared images, in pixels.
        eval_batch_size: Batch size of validation and test, in each process.
        shuffle_seed: Defines the order of training data, together with the epoch; by default the
            run's seed, which Lightning's ``seed_everything`` sets, or 0.
        held_out: Share of the training images, in [0, 0.5], that become validation batches for
            methods such as ``moml``, and are trained on no more; always the same ones.

    Attributes:
        tasks: The tasks, in the order of ``tasks``.
        input_shape: Channels, height and width of one image.
        expected: Number of images by split; another number gives a warning.

    Raises:
        ValueError: A number that is too small, or an unknown or repeated attribute; from
            ``prepare_data`` on: a file is missing, cannot be read, or has the wrong content.
    """

    expected: ClassVar[dict[Split, int]] = {"train": 162_770, "val": 19_867, "test": 19_962}

    def __init__(
        self,
        root: str | Path,
        batch_size: int = 256,
        *,
        tasks: tuple[str, ...] = TASKS,
        size: int = 64,
        eval_batch_size: int = 1000,
        shuffle_seed: int | None = None,
        held_out: float = 0.0,
    ) -> None:
        super().__init__()
        check_sizes(batch_size=batch_size, size=size, eval_batch_size=eval_batch_size)
        check_seeds(shuffle_seed=shuffle_seed)
        self.columns = columns_of(tasks)
        self.tasks = [binary(name) for name in self.columns]
        self.root = Path(root).expanduser()
        self.input_shape = (3, size, size)
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.shuffle_seed = shuffle_seed
        self.held_out = check_held_out(held_out)
        self._faces: dict[Split, Faces] = {}

    @property
    def dataset_name(self) -> str:
        """The set and the size of its images, for the provenance of a result."""
        return f"CelebA(size={self.input_shape[-1]}{shown(self.held_out)})"

    def faces(self, split: Split) -> Faces:
        """A split, its files checked at its first use.

        Raises:
            ValueError: The folder is not prepared, or a file is missing, cannot be read, or holds
                something else.
        """
        if split not in self._faces:
            _check_prepared(self.root)
            try:
                faces = open_faces(self.root / split, self.input_shape[-1], self.columns)
            except ValueError as error:
                raise ValueError(f"{error}; `recon data prepare celeba` makes the files") from error
            if len(faces) != self.expected[split]:
                warnings.warn(
                    f"{self.root / split} has {number_of(len(faces), 'image')}, CelebA has "
                    f"{self.expected[split]}; results cannot be compared with published ones",
                    stacklevel=2,
                )
            self._faces[split] = faces
        return self._faces[split]

    def files_read(self) -> dict[str, Path]:
        """The files of all splits; a benchmark knows the data by their contents."""
        _check_prepared(self.root)
        files = [path for split in SPLITS for pair in block_files(self.root / split) for path in pair]
        return {path.relative_to(self.root).as_posix(): path for path in files}

    def prepare_data(self) -> None:
        """Check the files of all splits before training, and read an image of each."""
        for split in SPLITS:
            _ = self.faces(split)[torch.tensor([0])]

    def train_dataloader(self) -> Loaders:
        """The training split, in the order of ``(shuffle_seed, epoch)``; two by ``held_out``."""
        faces = self.faces("train")

        def loader(among: Tensor | None) -> DataLoader[Batch]:
            return shuffled_loader(faces, len(faces), self.batch_size, self.shuffle_seed, self.trainer, among)

        return training_loaders(loader, len(faces), self.held_out, seed=0)

    def val_dataloader(self) -> DataLoader[Batch]:
        """The validation split, in order."""
        return ordered_loader(self.faces("val"), len(self.faces("val")), self.eval_batch_size)

    def test_dataloader(self) -> DataLoader[Batch]:
        """The test split, in order."""
        return ordered_loader(self.faces("test"), len(self.faces("test")), self.eval_batch_size)


def _check_prepared(root: Path) -> None:
    """Refuse a folder without the manifest of a prepared CelebA."""
    if (root / UNFINISHED).exists():
        raise ValueError(f"{root} is unfinished; the 'recon data prepare' that began it goes on with it")
    if not (root / MANIFEST).exists():
        raise ValueError(
            f"{root} holds no prepared CelebA; `recon data prepare celeba SOURCE --out {root}` makes it from the "
            "official files in SOURCE"
        )
    if (name := read_object(root / MANIFEST).get("dataset")) != "celeba":
        raise ValueError(f"{root} holds {name!r}, not 'celeba'; `recon data prepare celeba` makes another folder")
