"""A data module that joins one data module per task."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from pytorch_lightning import LightningDataModule
from pytorch_lightning.utilities.model_helpers import is_overridden

from recon.data.contract import ReadsFiles, dataset_name_of, input_shape_of, reads_files, tasks_of
from recon.data.per_task.loader import Mode, TaskLoader
from recon.data.per_task.parts import OneTask, TaskParts
from recon.errors import unknown_name
from recon.tasks.names import check_task_names
from recon.tasks.task import Task

_TRANSFERS = ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer")


class PerTask(LightningDataModule):
    """One data set per task: batches ``{task: (inputs, target)}``.

    In a :class:`recon.MultiTaskModule` each input passes through its own task's path alone. In
    validation and test every task is evaluated on its own set, once and whole.

    >>> from recon.data import Glyphs
    >>> digits = Glyphs(train_size=300, test_size=20, batch_size=100)
    >>> letters = Glyphs(train_size=100, test_size=20, batch_size=100, seed=1)
    >>> data = PerTask({"digit": digits, "letter": letters}, mode="max_size")
    >>> [task.name for task in data.tasks]
    ['digit', 'letter']
    >>> for batch, _, _ in data.train_dataloader():
    ...     print({task: part and tuple(part[0].shape) for task, part in batch.items()})
    {'digit': (100, 1, 36, 36), 'letter': (100, 1, 36, 36)}
    {'digit': (100, 1, 36, 36), 'letter': None}
    {'digit': (100, 1, 36, 36), 'letter': None}

    Args:
        modules: Task -> the data module that has it, among others or alone. The only task of a
            module may go by any name; so one kind of task can be learned in several domains.
        mode: How training sets of different length go together, in the words of Lightning's
            ``CombinedLoader``. ``"max_size_cycle"``: an epoch ends with the longest set, and
            shorter ones begin again, in another order. ``"max_size"``: tasks whose set has ended
            are absent. ``"min_size"``: an epoch ends with the shortest set. ``"sequential"``: one
            set after the other, one task a batch.

    Attributes:
        tasks: The tasks, in the order of ``modules``.

    Raises:
        ValueError: There is no module, a name cannot be used, a module lacks its task or moves its
            batches itself, or the mode is unknown.
    """

    def __init__(self, modules: dict[str, LightningDataModule], mode: Mode = "max_size_cycle") -> None:
        super().__init__()
        if not check_task_names(list(modules)):
            raise ValueError("modules is empty; give {task: data module}")
        if mode not in get_args(Mode):
            raise unknown_name("mode", mode, get_args(Mode))
        for name, module in modules.items():
            _refuse_transfers(name, module)
        self.modules = dict(modules)
        self.mode: Mode = mode
        own = {name: _task_of(name, module) for name, module in modules.items()}
        self.tasks = [replace(task, name=name) for name, task in own.items()]
        self._targets = {name: task.name for name, task in own.items()}

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the inputs of the first task, by which FLOPs are counted."""
        return input_shape_of(next(iter(self.modules.values())))

    @property
    def dataset_name(self) -> str:
        """The names of all sets, for the provenance of a result."""
        sets = ", ".join(f"{name}={dataset_name_of(module)}" for name, module in self.modules.items())
        return f"PerTask({sets}, mode={self.mode!r})"

    @property
    def files_read(self) -> Callable[[], Mapping[str, Path]] | None:
        """The function that lists the files of all sets; ``None`` if one does not list its own."""
        readers = {name: module for name, module in self.modules.items() if reads_files(module)}
        return (lambda: _files(readers)) if len(readers) == len(self.modules) else None

    def prepare_data(self) -> None:
        """Prepare all sets."""
        for _, module in self._each():
            module.prepare_data()

    def setup(self, stage: str) -> None:
        """Set up all sets."""
        for _, module in self._each():
            module.setup(stage)

    def teardown(self, stage: str) -> None:
        """Tear down all sets."""
        for _, module in self._each():
            module.teardown(stage)

    def state_dict(self) -> dict[str, Any]:
        """The state of all sets, by task, as far as they have one."""
        states = {name: module.state_dict() for name, module in self._each()}
        return {name: state for name, state in states.items() if state}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the state of all sets that have one."""
        for name, module in self._each():
            if name in state_dict:
                module.load_state_dict(state_dict[name])

    def train_dataloader(self) -> TaskLoader:
        """The training sets, joined by the mode."""
        loaders = {name: _one_loader(name, "train", module) for name, module in self._each()}
        return TaskLoader(loaders, self.mode, self._targets, self._epoch)

    def val_dataloader(self) -> TaskLoader:
        """The validation sets, each once; of tasks that have one."""
        return self._evaluation("val")

    def test_dataloader(self) -> TaskLoader:
        """The test sets, each once; of tasks that have one."""
        return self._evaluation("test")

    def predict_dataloader(self) -> list[OneTask]:
        """The inputs to predict for, one task after the other; by default the test sets."""
        found = []
        for name, module in self._each():
            kind = "predict" if is_overridden("predict_dataloader", module, LightningDataModule) else "test"
            if kind == "test":
                module.setup("test")
            loader = _one_loader(name, kind, module)
            found.append(OneTask(TaskParts(name, self._targets[name], loader, self._epoch)))
        return found

    def _evaluation(self, kind: str) -> TaskLoader:
        loaders = {
            name: _one_loader(name, kind, module)
            for name, module in self._each()
            if is_overridden(f"{kind}_dataloader", module, LightningDataModule)
        }
        return TaskLoader(loaders, "max_size", self._targets)

    def _each(self) -> Iterator[tuple[str, LightningDataModule]]:
        """The modules with their names; they know the trainer."""
        for name, module in self.modules.items():
            module.trainer = self.trainer
            yield name, module

    def _epoch(self) -> int:
        """The number that Lightning tells the samplers of this epoch."""
        if self.trainer is None:
            return 0
        progress: Any = self.trainer.fit_loop.epoch_progress.current
        return progress.processed


def _task_of(name: str, module: LightningDataModule) -> Task:
    """The task that a module is named for, or its only one."""
    tasks = {task.name: task for task in tasks_of(module)}
    if name in tasks:
        return tasks[name]
    if len(tasks) > 1:
        raise unknown_name("task", name, tasks, type(module).__name__)
    return next(iter(tasks.values()))


def _one_loader(name: str, kind: str, module: LightningDataModule) -> Iterable[Any]:
    loader = getattr(module, f"{kind}_dataloader")()
    if isinstance(loader, list | tuple | dict):
        raise ValueError(f"the data of task {name!r} give {len(loader)} loaders for {kind}; a task has one")
    if kind == "train" and _is_empty(loader):
        raise ValueError(f"the data of task {name!r} have no batch to train on; give it more data")
    return loader


def _is_empty(loader: Any) -> bool:
    try:
        return len(loader) == 0
    except TypeError:  # a stream has no length
        return False


def _refuse_transfers(name: str, module: LightningDataModule) -> None:
    for hook in _TRANSFERS:
        if is_overridden(hook, module, LightningDataModule):
            raise ValueError(
                f"the data of task {name!r} have their own {hook}, which is not called where data are joined; "
                "do its work in the Dataset"
            )


def _files(modules: Mapping[str, ReadsFiles]) -> dict[str, Path]:
    return {f"{task}/{name}": path for task, module in modules.items() for name, path in module.files_read().items()}
