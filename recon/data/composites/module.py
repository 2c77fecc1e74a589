"""Sets of two overlapping 28 x 28 objects in a 36 x 36 image: storage, order, batches.

A set is small enough to be held as tensors (1.3 kB an image), so a batch is one slice of them.
"""

from abc import ABC, abstractmethod
from typing import Literal

from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from recon.data.batches import Batch
from recon.data.held_out import Loaders, check_held_out, shown, training_loaders
from recon.data.in_memory import check_seeds, check_sizes, ordered_loader, shuffled_loader
from recon.tasks.task import Task

SIZE = 36
"""Height and width of a composite, in pixels."""

Split = Literal["train", "test"]


class Composites(Dataset[Batch]):
    """Images and one label per task, indexed by batches.

    Args:
        images: ``(N, 36, 36)``, uint8.
        targets: Task name -> labels ``(N,)``, integers.
    """

    def __init__(self, images: Tensor, targets: dict[str, Tensor]) -> None:
        self.images = images
        self.targets = {task: labels.long() for task, labels in targets.items()}

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, indices: Tensor) -> Batch:
        """Slice a batch.

        Args:
            indices: ``(B,)``, integers.

        Returns:
            Pixels ``(B, 1, 36, 36)``, float32 in [0, 1], and labels ``(B,)`` by task.
        """
        pixels = self.images[indices].unsqueeze(1).float().div_(255)
        return pixels, {task: labels[indices] for task, labels in self.targets.items()}


class CompositesModule(LightningDataModule, ABC):
    """Loaders over a train and a test split of composites.

    There is no third split: ``val_dataloader`` and ``test_dataloader`` both give the **test
    split**, as in the published work on these sets. Report the last epoch, or a mean of the last
    ones; a checkpoint selected by a validation metric would be selected on the test set.

    Args:
        train_size: Number of training composites, the first ones of the sequence that ``seed``
            defines.
        test_size: Number of test composites, likewise.
        batch_size: Batch size of training, in each process.
        eval_batch_size: Batch size of validation and test, in each process.
        seed: Defines the composites.
        shuffle_seed: Defines the order of training data, together with the epoch; by default the
            run's seed, which Lightning's ``seed_everything`` sets, or 0.
        held_out: Share of the training samples, in [0, 0.5], that become validation batches for
            methods such as ``moml``, and are trained on no more; drawn by ``seed``.

    Attributes:
        tasks: The tasks, in the order of the targets.
        input_shape: Channels, height and width of one image.

    Raises:
        ValueError: A number that is too small.
    """

    tasks: list[Task]
    input_shape: tuple[int, int, int] = (1, SIZE, SIZE)

    def __init__(
        self,
        train_size: int,
        test_size: int,
        batch_size: int,
        eval_batch_size: int = 1000,
        seed: int = 0,
        shuffle_seed: int | None = None,
        held_out: float = 0.0,
    ) -> None:
        super().__init__()
        check_sizes(train_size=train_size, test_size=test_size, batch_size=batch_size, eval_batch_size=eval_batch_size)
        check_seeds(seed=seed, shuffle_seed=shuffle_seed)
        self.sizes: dict[Split, int] = {"train": train_size, "test": test_size}
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.seed = seed
        self.shuffle_seed = shuffle_seed
        self.held_out = check_held_out(held_out)
        self._composites: dict[Split, Composites] = {}

    @abstractmethod
    def compose(self, split: Split) -> Composites:
        """Build a split; the same one at each call."""

    @property
    def dataset_name(self) -> str:
        """The set, its sizes and its seed, for the provenance of a result."""
        sizes = f"train_size={self.sizes['train']}, test_size={self.sizes['test']}"
        return f"{type(self).__name__}({sizes}, seed={self.seed}{shown(self.held_out)})"

    def composites(self, split: Split) -> Composites:
        """A split, built at its first use."""
        if split not in self._composites:
            self._composites[split] = self.compose(split)
        return self._composites[split]

    def setup(self, stage: str) -> None:
        """Build the splits of a stage before its first batch."""
        if stage == "fit":
            self.composites("train")
        self.composites("test")

    def train_dataloader(self) -> Loaders:
        """The training split, in the order of ``(shuffle_seed, epoch)``; two by ``held_out``."""
        composites = self.composites("train")

        def loader(among: Tensor | None) -> DataLoader[Batch]:
            return shuffled_loader(composites, len(composites), self.batch_size, self.shuffle_seed, self.trainer, among)

        return training_loaders(loader, len(composites), self.held_out, self.seed)

    def val_dataloader(self) -> DataLoader[Batch]:
        """The **test split**, in order."""
        return self.test_dataloader()

    def test_dataloader(self) -> DataLoader[Batch]:
        """The test split, in order."""
        composites = self.composites("test")
        return ordered_loader(composites, len(composites), self.eval_batch_size)
