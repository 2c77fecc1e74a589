"""The LightningCLI behind ``recon fit``, ``search``, ``validate``, ``test`` and ``predict``."""

import warnings
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint, ProgressBar
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.plugins.io import CheckpointIO

from recon.configuration import Parser
from recon.data.contract import tasks_of
from recon.training.checkpoints import WholeCheckpoints
from recon.training.module import MultiTaskModule
from recon.training.progress import EpochLines, without_terminal
from recon.training.run_folder import LastEpochCheckpoint, RunConfiguration
from recon.training.trainer import Trainer

COMMANDS = ("fit", "search", "validate", "test", "predict")


class TrainingParser(Parser, LightningArgumentParser):
    """Lightning's parser, with errors that suggest the nearest name."""


class TrainingCLI(LightningCLI):
    """The commands of the trainer, from a YAML with the keys ``trainer``, ``model`` and ``data``.

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
            save_config_callback=RunConfiguration,
            save_config_kwargs={"save_to_log_dir": False},
            auto_configure_optimizers=False,
            seed_everything_default=0,
            load_from_checkpoint_support=False,
            parser_kwargs={"prog": "recon"},
            args=args,
            run=run,
        )

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        """A parser that raises its errors for the caller to word, not two pages of usage."""
        return super().init_parser(**{"exit_on_error": False, **kwargs})

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse the rest of the command line, without Lightning's warning that there are two."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="LightningCLI's args parameter")
            super().parse_arguments(parser, args)

    def _parse_ckpt_path(self) -> None:
        """Do nothing: Lightning would merge a checkpoint's class paths into the configuration."""

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        """The trainer, with checkpoints read and written our way; keeps the last one by default."""
        options = self._get(self.config_init, "trainer")
        plugins, callbacks = _listed(options.get("plugins")), _listed(options.get("callbacks"))
        if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
            plugins = [*plugins, WholeCheckpoints()]
        keeps = self.subcommand in ("fit", "search") and options.get("enable_checkpointing") is not False
        if keeps and not options.get("fast_dev_run") and not any(isinstance(c, Checkpoint) for c in callbacks):
            callbacks = [*callbacks, LastEpochCheckpoint()]
        if without_terminal(options) and not any(isinstance(c, ProgressBar) for c in callbacks):
            kwargs["enable_progress_bar"] = False
            callbacks = [*callbacks, EpochLines()]
        return super().instantiate_trainer(plugins=plugins, callbacks=callbacks, **kwargs)

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """The trainer's methods that are subcommands, with the arguments not asked for."""
        return {command: {"model", "datamodule"} for command in COMMANDS}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Take the tasks from the data module."""
        parser.link_arguments("data", "model.tasks", compute_fn=tasks_of, apply_on="instantiate")


def _listed(value: Any) -> list[Any]:
    """The values of a trainer's option that takes one, several or none."""
    return [] if value is None else list(value) if isinstance(value, list | tuple) else [value]
