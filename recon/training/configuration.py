"""What ``recon fit`` and its siblings read: a LightningCLI for multi-task networks."""

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI

from recon.parser import Parser
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
                "logger": {"class_path": "pytorch_lightning.loggers.CSVLogger", "init_args": {"save_dir": "logs"}}
            },
            save_config_kwargs={"overwrite": True},
            auto_configure_optimizers=False,
            seed_everything_default=0,
            args=args,
            run=run,
        )

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        """A parser that raises its errors, for the caller to word; by itself it prints two pages of usage."""
        return super().init_parser(**{"exit_on_error": False, **kwargs})

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """The trainer's methods that are subcommands, with the arguments that are not asked for on the command line."""
        loaders = {"model", "train_dataloaders", "val_dataloaders", "dataloaders", "datamodule"}
        return {"fit": loaders, "validate": loaders, "test": loaders, "search": {"model", "datamodule"}}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Take the tasks from the data module."""
        parser.link_arguments("data", "model.tasks", compute_fn=_tasks, apply_on="instantiate")


def _tasks(data: Any) -> Any:
    return data.tasks


def last_epoch_checkpoint(directory: str) -> ModelCheckpoint:
    """Keeps one checkpoint, of the last finished epoch, as ``last.ckpt``; it is replaced atomically."""
    return ModelCheckpoint(
        dirpath=directory,
        filename="last",
        every_n_epochs=1,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
