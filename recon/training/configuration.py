"""What ``recon fit`` and its siblings read: a LightningCLI for multi-task networks."""

import warnings
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.plugins.io import TorchCheckpointIO

from recon.files import replaced
from recon.parser import Parser
from recon.tasks import Task
from recon.training.callbacks import ConflictCallback
from recon.training.module import MultiTaskModule


class Trainer(pl.Trainer):
    """Lightning's trainer, which can also search for conflict layers."""

    callbacks: list[pl.Callback]

    def search(
        self,
        model: pl.LightningModule,
        datamodule: pl.LightningDataModule | None = None,
        map_path: str = "conflict_map.json",
        every: int = 1,
        ckpt_path: str | None = None,
    ) -> None:
        """Train as ``fit`` does while observing conflicts, and write the conflict map.

        Args:
            model: The network to search.
            datamodule: Its data.
            map_path: Where the conflict map is written, after each epoch.
            every: Observe each n-th step.
            ckpt_path: Resume from this checkpoint; ``last`` for the newest.
        """
        if any(isinstance(callback, ConflictCallback) for callback in self.callbacks):
            raise ValueError("the configuration has a ConflictCallback already; run `recon fit`, or take it out")
        self.callbacks.insert(0, ConflictCallback(every=every, path=map_path))
        self.fit(model, datamodule=datamodule, ckpt_path=ckpt_path)
        print(f"conflict map: {map_path}")


class TrainingParser(Parser, LightningArgumentParser):
    """Lightning's parser, which suggests the nearest name."""


class TrainingCLI(LightningCLI):
    """``fit``, ``validate``, ``test`` and ``search`` from a YAML with the keys ``trainer``, ``model`` and ``data``.

    The tasks come from the data module (``model.tasks``).

    Args:
        args: Command line, or a configuration as a dictionary.
        run: Whether to run the subcommand; otherwise model, data and trainer are only built.
    """

    def __init__(self, args: list[str] | dict[str, Any] | None = None, run: bool = True) -> None:
        super().__init__(
            MultiTaskModule,
            pl.LightningDataModule,
            subclass_mode_data=True,
            trainer_class=Trainer,
            parser_class=TrainingParser,
            trainer_defaults={
                "logger": {"class_path": "pytorch_lightning.loggers.CSVLogger", "init_args": {"save_dir": "logs"}},
                "devices": 1,
                "enable_model_summary": False,  # it counts FLOPs of what it never runs
                "num_sanity_val_steps": 0,
            },
            save_config_kwargs={"overwrite": True},
            auto_configure_optimizers=False,
            seed_everything_default=0,
            parser_kwargs={"prog": "recon"},
            args=args,
            run=run,
        )

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        """A parser that raises its errors, for the caller to word; by itself it prints two pages of usage."""
        return super().init_parser(**{"exit_on_error": False, **kwargs})

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse arguments that are what ``recon`` left of the command line; Lightning warns that there are both."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="LightningCLI's args parameter")
            super().parse_arguments(parser, args)

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """The trainer's methods that are subcommands, with the arguments that are not asked for on the command line."""
        loaders = {"model", "train_dataloaders", "val_dataloaders", "dataloaders", "datamodule"}
        return {"fit": loaders, "validate": loaders, "test": loaders, "search": {"model", "datamodule"}}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Take the tasks from the data module."""
        parser.link_arguments("data", "model.tasks", compute_fn=tasks_of, apply_on="instantiate")


def tasks_of(data: pl.LightningDataModule | None) -> list[Task]:
    """The tasks that a data module provides.

    Raises:
        ValueError: There is no data module, or it has no tasks.
    """
    tasks: list[Task] | None = getattr(data, "tasks", None)
    if not tasks:
        given = "there is no data module" if data is None else f"{type(data).__name__} has no tasks"
        raise ValueError(f"{given}; give data whose attribute `tasks` lists what is learned (recon.Task)")
    return tasks


def last_epoch_checkpoint(directory: str) -> ModelCheckpoint:
    """Keeps one checkpoint, of the last finished epoch, as ``last.ckpt``."""
    return ModelCheckpoint(
        dirpath=directory,
        filename="last",
        every_n_epochs=1,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )


class WholeCheckpoints(TorchCheckpointIO):
    """Replaces checkpoints whole; Lightning's own way copies them from the temporary folder if that is another disk."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        with replaced(Path(path)) as temporary:
            torch.save(checkpoint, temporary)
