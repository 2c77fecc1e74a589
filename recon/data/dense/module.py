"""Loaders over a layout of scenes, for tasks with a prediction at every pixel."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader

from recon.data.batches import (
    Batch,
    EpochBatch,
    EpochBatches,
    FixedBatches,
    ShuffledBatches,
    overfits,
    run_seed,
)
from recon.data.dense.augmentation import SCALES, RandomViews
from recon.data.dense.layout import SPLITS, UNFINISHED, DenseFolder, Split
from recon.data.dense.quantities import Quantity
from recon.data.held_out import Loaders, check_held_out, shown, training_loaders
from recon.data.shares import own_share, shared_in_order, smallest_last_batch
from recon.errors import unknown_name
from recon.tasks.names import check_task_names
from recon.tasks.per_pixel import Aggregation
from recon.tasks.task import Task


class TaskKind(Protocol):
    """A kind of task, such as :func:`recon.tasks.depth`; a kind with options is a ``partial``."""

    def __call__(self, name: str, *, aggregation: Aggregation) -> Task:
        """The task of this kind with a name."""


class DenseDataModule(LightningDataModule):
    """Loaders over the train and the val split of a layout (:mod:`recon.data.dense.layout`).

    There is no third split: ``val_dataloader`` and ``test_dataloader`` both give the **val split**,
    as in the published work on these sets. Report the last epoch, or a mean of the last ones; a
    checkpoint selected by a validation metric would be selected on the test set. The root is first
    looked at in ``prepare_data``.

    >>> from functools import partial
    >>> from recon.data.dense.quantities import Depth, Labels
    >>> from recon.tasks import depth, segmentation
    >>> data = DenseDataModule(
    ...     root="kitchens",
    ...     targets={
    ...         "objects": (Labels(5), partial(segmentation, classes=5)),
    ...         "distance": (Depth(), depth),
    ...     },
    ...     tasks=("objects", "distance"),
    ...     height=96,
    ...     width=128,
    ...     batch_size=8,
    ... )
    >>> [(task.name, task.outputs) for task in data.tasks]
    [('objects', 5), ('distance', 1)]

    Args:
        root: The layout's folder.
        targets: Task name -> the quantity of its targets, and the kind of the task. A name decides
            nothing.
        tasks: Names of the tasks to give; only their folders are read.
        height: Height of the scenes, in pixels.
        width: Width of the scenes, in pixels.
        batch_size: Batch size of training, in each process.
        eval_batch_size: Batch size of validation and test, in each process.
        augment: Whether training shows random views of the scenes
            (:mod:`recon.data.dense.augmentation`).
        aggregation: Whether metrics are taken over the whole data set, or are the mean over
            batches.
        num_workers: Processes that read batches; with 0 the training process does. The batches are
            the same.
        shuffle_seed: Defines the order of training data and their views, together with the epoch;
            by default the run's seed, which Lightning's ``seed_everything`` sets, or 0.
        held_out: Share of the training scenes, in [0, 0.5], that become validation batches for
            methods such as ``moml``, and are trained on no more; always the same ones.

    Attributes:
        tasks: The tasks, in the order of ``tasks``.
        input_shape: Channels, height and width of one image.
        expected: Number of scenes by split; another number gives a warning.
        cure: The way to a sound layout, for errors.
        scales: The scales of random views.

    Raises:
        ValueError: A number that is too small, or an unknown or repeated task.
    """

    expected: ClassVar[Mapping[Split, int]] = {}
    cure: ClassVar[str] = "`recon data verify` says whether a layout is sound"
    scales: ClassVar[tuple[float, ...]] = SCALES

    def __init__(
        self,
        root: str | Path,
        targets: Mapping[str, tuple[Quantity, TaskKind]],
        tasks: Sequence[str],
        height: int,
        width: int,
        batch_size: int,
        eval_batch_size: int = 8,
        augment: bool = True,
        aggregation: Aggregation = "dataset",
        num_workers: int = 0,
        shuffle_seed: int | None = None,
        held_out: float = 0.0,
    ) -> None:
        super().__init__()
        positive = {"height": height, "width": width, "batch_size": batch_size, "eval_batch_size": eval_batch_size}
        for name, value in positive.items():
            if value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")
        for name, number in (("num_workers", num_workers), ("shuffle_seed", shuffle_seed)):
            if number is not None and number < 0:
                raise ValueError(f"{name} is {number}; it must not be negative")
        self.root = Path(root).expanduser()
        _check_selection(tasks, targets)
        self.quantities = {name: targets[name][0] for name in tasks}
        self.tasks = [targets[name][1](name, aggregation=aggregation) for name in tasks]
        self.input_shape = (3, height, width)
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.augment = augment
        self.num_workers = num_workers
        self.shuffle_seed = shuffle_seed
        self.held_out = check_held_out(held_out)
        self._scenes: dict[Split, DenseFolder] = {}

    @property
    def dataset_name(self) -> str:
        """Name and size of the data, for the provenance of a result."""
        _, height, width = self.input_shape
        return f"{type(self).__name__}(height={height}, width={width}{shown(self.held_out)})"

    def scenes(self, split: Split) -> DenseFolder:
        """A split on disk, its files checked at its first use.

        Raises:
            ValueError: A folder or file is missing, cannot be read, or has another shape.
        """
        if split not in self._scenes:
            _, *size = self.input_shape
            if (self.root / UNFINISHED).exists():
                raise ValueError(f"{self.root} is unfinished; the 'recon data prepare' that began it goes on with it")
            try:
                scenes = DenseFolder(self.root / split, (size[0], size[1]), self.quantities)
            except ValueError as error:
                raise ValueError(f"{error}; {self.cure}") from error
            if len(scenes) != self.expected.get(split, len(scenes)):
                warnings.warn(
                    f"{self.root / split} has {len(scenes)} scenes, {type(self).__name__} has {self.expected[split]}; "
                    "results cannot be compared with published ones",
                    stacklevel=2,
                )
            self._scenes[split] = scenes
        return self._scenes[split]

    def files_read(self) -> dict[str, Path]:
        """The files of images and targets; a benchmark knows the data by their contents."""
        files = [path for split in SPLITS for path in self.scenes(split).files()]
        return {path.relative_to(self.root).as_posix(): path for path in files}

    def prepare_data(self) -> None:
        """Check the files of both splits, and one scene's values of each, before training."""
        for split in SPLITS:
            _ = self.scenes(split)[0, [0]]

    def setup(self, stage: str) -> None:
        """Check the files of a stage before its first batch."""
        if stage == "fit":
            self.scenes("train")
        self.scenes("val")

    def train_dataloader(self) -> Loaders:
        """The training split, in the order and the views of ``(shuffle_seed, epoch)``.

        In two with ``held_out``, both in such views.
        """
        return training_loaders(self._train_loader, len(self.scenes("train")), self.held_out, seed=0)

    def _train_loader(self, among: Tensor | None) -> DataLoader[Batch]:
        seed = run_seed() if self.shuffle_seed is None else self.shuffle_seed
        scenes = self.scenes("train")
        size, least = len(scenes if among is None else among), smallest_last_batch(self.trainer)
        batches = ShuffledBatches(size, self.batch_size, seed, own_share(), least, among)
        seen = scenes.through(RandomViews(scenes.size, seed, self.scales)) if self.augment else scenes
        if overfits(self.trainer):
            return self._loader(seen, FixedBatches(list(EpochBatches(batches))))
        return self._loader(seen, EpochBatches(batches, self._epoch()))

    def val_dataloader(self) -> DataLoader[Batch]:
        """The **val split**, in order."""
        scenes = self.scenes("val")
        indices = shared_in_order(len(scenes), self.eval_batch_size, own_share())
        return self._loader(scenes, FixedBatches([(0, batch.tolist()) for batch in indices]))

    def test_dataloader(self) -> DataLoader[Batch]:
        """The **val split**, in order."""
        return self.val_dataloader()

    def _loader(self, scenes: DenseFolder, batches: Iterable[EpochBatch]) -> DataLoader[Batch]:
        return DataLoader(
            scenes,
            batch_size=None,
            sampler=batches,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
        )

    def _epoch(self) -> int:
        """The epoch that training is about to begin.

        In a resumed run Lightning starts worker processes before it tells the sampler the epoch,
        and counts the checkpoint's epoch as completed later still: ``current_epoch`` would be one
        too small.
        """
        if self.trainer is None:
            return 0
        progress: Any = self.trainer.fit_loop.epoch_progress.current
        return progress.processed


def _check_selection(tasks: Sequence[str], targets: Mapping[str, object]) -> None:
    if not check_task_names(tasks):
        raise ValueError(f"tasks is empty; give some of {', '.join(targets)}")
    for name in tasks:
        if name not in targets:
            raise unknown_name("task", name, targets)
