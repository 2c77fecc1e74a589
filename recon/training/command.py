"""The LightningCLI behind ``recon fit``, ``search``, ``validate``, ``test`` and ``predict``."""

import time
import warnings
from argparse import ArgumentError
from collections.abc import Callable, Mapping
from typing import Any

import pytorch_lightning as pl
import yaml
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import Checkpoint, ProgressBar
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.plugins.io import CheckpointIO
from pytorch_lightning.strategies.launchers import _MultiProcessingLauncher

from recon.configuration import Parser
from recon.data.contract import tasks_of
from recon.training.checkpoints import WholeCheckpoints
from recon.training.module import MultiTaskModule
from recon.training.progress import ProgressLines, without_terminal
from recon.training.refusals import refuse_too_many_processes, refuse_unsupported
from recon.training.resuming import checkpoints_since, how_to_go_on
from recon.training.run_folder import LastEpochCheckpoint, RunConfiguration
from recon.training.searching.proxy import Proxy
from recon.training.strategy import starts_processes
from recon.training.trainer import Trainer

_OF_NETWORK = ("seed_everything", "model", "data")
"""Keys of a configuration by which a network is built."""

COMMANDS = ("fit", "search", "validate", "test", "predict")


class TrainingParser(Parser, LightningArgumentParser):
    """Lightning's parser, with errors that suggest the nearest name."""


class TrainingCLI(LightningCLI):
    """The commands of the trainer, from a YAML with the keys ``trainer``, ``model`` and ``data``.

    The tasks and the shape of inputs come from the data module (``model.tasks`` and
    ``model.input_shape``).

    Args:
        args: Command line, or a configuration as a dictionary.
        run: Whether to run the subcommand; otherwise model, data and trainer are only built.
        together: Runs the command in so many new processes, where the trainer asks for several; it
            is given their number, and words to add to the command.
    """

    def __init__(
        self,
        args: list[str] | dict[str, Any] | None = None,
        run: bool = True,
        together: Callable[[int, list[str]], None] | None = None,
    ) -> None:
        self._together = together
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

    def _run_subcommand(self, subcommand: str) -> None:
        """Run a subcommand, here or in the processes that the trainer asks for."""
        if self._together is None or not starts_processes(self.trainer):
            super()._run_subcommand(subcommand)
            return
        if subcommand in ("fit", "search"):
            refuse_unsupported(self.trainer)
        refuse_too_many_processes(self.trainer)
        if self.trainer.num_nodes > 1:
            raise ValueError(f"num_nodes={self.trainer.num_nodes}: start a run on several machines with torchrun")
        began = time.time()
        try:
            spawns = isinstance(self.trainer.strategy.launcher, _MultiProcessingLauncher)
            self._together(self.trainer.num_devices, ["--trainer.strategy", "ddp"] if spawns else [])
        except KeyboardInterrupt:
            raise KeyboardInterrupt(how_to_go_on(checkpoints_since(self.trainer, began))) from None

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
            callbacks = [*callbacks, ProgressLines()]
        return super().instantiate_trainer(plugins=plugins, callbacks=callbacks, **kwargs)

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """The trainer's methods that are subcommands, with the arguments not asked for."""
        return {command: {"model", "datamodule", "proxy"} for command in COMMANDS}

    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        if subcommand == "search":
            parser.add_argument(
                "--proxy",
                type=dict[str, Any] | None,
                help="Arguments of the backbone that make a narrow one with the same layers, to be searched instead.",
            )
        return parser

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        kwargs = super()._prepare_subcommand_kwargs(subcommand)
        if subcommand == "search" and (arguments := self._get(self.config, "proxy")) is not None:
            kwargs["proxy"] = Proxy(self._narrow(arguments), arguments)
        return kwargs

    def _narrow(self, arguments: Mapping[str, Any]) -> MultiTaskModule:
        """The module of the configuration with other arguments of its backbone.

        Raises:
            ValueError: The backbone does not take an argument.
        """
        dumped = self._parser("search").dump(self.config["search"], skip_unset=False)
        configuration = {key: value for key, value in yaml.safe_load(dumped).items() if key in _OF_NETWORK}
        backbone = configuration["model"]["backbone"]
        backbone["init_args"] = {**(backbone.get("init_args") or {}), **arguments}
        trainer = {"logger": False, "enable_checkpointing": False}
        try:
            return TrainingCLI(args={**configuration, "trainer": trainer}, run=False).model
        except (ArgumentError, MisconfigurationException, ValueError) as error:
            raise ValueError(f"proxy: {error}") from error

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Take the tasks and the shape of inputs from the data module."""
        parser.link_arguments("data", "model.tasks", compute_fn=tasks_of, apply_on="instantiate")
        parser.link_arguments("data", "model.input_shape", compute_fn=_shape_of, apply_on="instantiate")


def _shape_of(data: pl.LightningDataModule | None) -> tuple[int, ...] | None:
    """The shape of the inputs of one sample, if the data say it."""
    return getattr(data, "input_shape", None)


def _listed(value: Any) -> list[Any]:
    """The values of a trainer's option that takes one, several or none."""
    return [] if value is None else list(value) if isinstance(value, list | tuple) else [value]
