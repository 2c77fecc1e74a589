"""Two images of MNIST or Fashion-MNIST in one: the pairs behind the three published sets.

Lin et al., "Pareto Multi-Task Learning", NeurIPS 2019: 36 x 36 pixels, one image (28 x 28) at the
top left, the other at the bottom right, the larger of both values where they overlap; 120,000
training and 20,000 test images. The published pairing is not reproducible from the raw files, so
ours is a random one of its own seed.

The pairs of a split come in rounds. In each round every first image of that split appears once,
paired with a second image of that split; both orders are random permutations. Training pairs hold
training images only, test pairs test images only. With the full files, 120,000 training and 20,000
test pairs are two rounds, and a smaller set is the beginning of a larger one.
"""

import hashlib
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from recon.data.cache import Arrays, cached, is_writable, user_cache
from recon.data.composites.idx import read_idx
from recon.data.composites.module import SIZE, Composites, CompositesModule, Split
from recon.errors import number_of
from recon.tasks.per_image import classification

_PATCH = 28
_PREFIXES: dict[Split, str] = {"train": "train", "test": "t10k"}
_CACHE_FORMAT = 1

Labelled = tuple[np.ndarray, np.ndarray]


class OverlappingImages(CompositesModule):
    """Pairs of overlapping images from raw files that torchvision knows; a base of data modules.

    A cache file holds the composites: in ``root`` under the set's name or, if that is read-only, in
    the user's cache (on Linux ``~/.cache/recon``). A file that is damaged or of other raw files is
    made again.

    Subclasses say which images they pair, by the class attribute ``sources``: task -> data set of
    torchvision with ten classes, of the image at the top left first.

    Args:
        root: Directory with a folder ``raw`` for each data set as torchvision lays them out.
            Missing files are downloaded to it; a directory with all files may be read-only.
        train_size: Number of training pairs, the first of the sequence.
        test_size: Number of test pairs, the first of the sequence.
        batch_size: Batch size of training, in each process.
        loading: ``eval_batch_size``, ``seed`` of the pairing, ``shuffle_seed`` and ``held_out``, as
            :class:`~recon.data.composites.module.CompositesModule` takes them.

    Raises:
        ValueError: When the data are asked for: raw files are missing and cannot be downloaded, or
            are damaged.
    """

    sources: ClassVar[dict[str, str]]

    def __init__(
        self,
        root: str | Path,
        train_size: int = 120_000,
        test_size: int = 20_000,
        batch_size: int = 256,
        **loading: Any,
    ) -> None:
        super().__init__(train_size, test_size, batch_size, **loading)
        self.root = Path(root).expanduser()
        self.tasks = [classification(task, 10) for task in self.sources]

    def prepare_data(self) -> None:
        """Download what is missing."""
        for folder in dict.fromkeys(self.sources.values()):
            _download_if_missing(self.root, folder)

    def files_read(self) -> dict[str, Path]:
        """The raw files; a benchmark knows the data by their contents, wherever they are."""
        files = [
            path
            for folder in self.sources.values()
            for prefix in _PREFIXES.values()
            for path in _raw_files(self.root / folder / "raw", prefix)
        ]
        return {path.relative_to(self.root).as_posix(): path for path in files}

    def compose(self, split: Split) -> Composites:
        """Read a split's pairs from the cache, or pair the raw images."""
        self.prepare_data()
        images = {
            folder: _read(self.root / folder / "raw", _PREFIXES[split])
            for folder in dict.fromkeys(self.sources.values())
        }
        first, second = (images[folder] for folder in self.sources.values())
        size = self.sizes[split]
        source = _digest(*first, *second)
        arrays = cached(
            name=f"{split}-{size}-seed{self.seed}-{source[:8]}.npz",
            header={"format": _CACHE_FORMAT, "split": split, "size": size, "seed": self.seed, "source": source},
            directories=[self.root / type(self).__name__, user_cache() / type(self).__name__],
            make=partial(self._pair, first, second, size, np.random.default_rng([self.seed, split == "test"])),
        )
        composites = torch.from_numpy(arrays.pop("images"))
        return Composites(composites, {task: torch.from_numpy(labels) for task, labels in arrays.items()})

    def _pair(self, first: Labelled, second: Labelled, size: int, generator: np.random.Generator) -> Arrays:
        """Pair images at random, round by round; a larger ``size`` keeps the pairs before."""
        per_round = min(len(first[0]), len(second[0]))
        rounds = -(-size // per_round)
        orders = [
            (generator.permutation(len(first[0]))[:per_round], generator.permutation(len(second[0]))[:per_round])
            for _ in range(rounds)
        ]
        firsts, seconds = np.concatenate(orders, axis=1)[:, :size]
        labels = zip(self.sources, (first[1][firsts], second[1][seconds]), strict=True)
        return {"images": _overlap(first[0][firsts], second[0][seconds]), **dict(labels)}


def _overlap(top_left: np.ndarray, bottom_right: np.ndarray) -> np.ndarray:
    """Composites ``(N, 36, 36)`` of images ``(N, 28, 28)``."""
    images = np.zeros((len(top_left), SIZE, SIZE), np.uint8)
    images[:, :_PATCH, :_PATCH] = top_left
    corner = images[:, -_PATCH:, -_PATCH:]
    np.maximum(corner, bottom_right, out=corner)
    return images


def _digest(*arrays: np.ndarray) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(array.data)
    return digest.hexdigest()


def _read(folder: Path, prefix: str) -> Labelled:
    image_file, label_file = _raw_files(folder, prefix)
    images, labels = read_idx(image_file, 3), read_idx(label_file, 1)
    if images.shape[1:] != (_PATCH, _PATCH):
        raise ValueError(f"{image_file} has images of {images.shape[1]}x{images.shape[2]} pixels; expected 28x28")
    if len(images) != len(labels) or not len(images):
        raise ValueError(
            f"{image_file} has {number_of(len(images), 'image')}, but {label_file} has "
            f"{number_of(len(labels), 'label')}"
        )
    if labels.max() > 9:
        raise ValueError(f"{label_file} has label {labels.max()}; expected 0 to 9")
    return images, labels


def _raw_files(folder: Path, prefix: str) -> tuple[Path, Path]:
    return folder / f"{prefix}-images-idx3-ubyte", folder / f"{prefix}-labels-idx1-ubyte"


def _download_if_missing(root: Path, folder: str) -> None:
    raw = root / folder / "raw"
    missing = [file.name for prefix in _PREFIXES.values() for file in _raw_files(raw, prefix) if not file.is_file()]
    if not missing:
        return
    cure = f"put the files of {folder} there, or name another root (it is {root})"
    if not is_writable(raw):
        raise ValueError(f"{raw} lacks {', '.join(missing)}, and it is read-only; {cure}")

    import torchvision

    try:
        getattr(torchvision.datasets, folder)(root, download=True)
    except (OSError, RuntimeError) as error:
        raise ValueError(f"{raw} lacks {', '.join(missing)}, and torchvision cannot download it; {cure}") from error
