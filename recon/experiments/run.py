"""One run of a benchmark: one Lightning fit in a folder of its own."""

import logging
import math
import warnings
from argparse import ArgumentError
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import yaml
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import Timer
from pytorch_lightning.loggers import CSVLogger
from torch.utils.data import DataLoader, IterableDataset

from recon.conflict import first_layers, last_layers, random_layers, read_map
from recon.data.contract import input_shape_of, tasks_of
from recon.experiments.fit import backbone_of, count_parameters, data_of, flops, with_root
from recon.experiments.plan import Plan, Run
from recon.experiments.report import figures
from recon.experiments.report.predictions import prediction_sheet
from recon.experiments.result import keep_result, run_directory
from recon.files.atomic import write_atomically
from recon.methods import create_method
from recon.tasks.task import Task
from recon.training import ConflictCallback
from recon.training.branch_options import branchable_layers, network_for
from recon.training.checkpoints import WholeCheckpoints
from recon.training.command import TrainingCLI
from recon.training.refusals import refuse_unsupported
from recon.training.run_folder import LastEpochCheckpoint

Report = Callable[[str, int], None]


class _EpochReport(pl.Callback):
    """Tells how many epochs of a run are done, those before a resume included."""

    def __init__(self, run: str, report: Report) -> None:
        self.run = run
        self.report = report

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.report(self.run, trainer.current_epoch)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.report(self.run, trainer.current_epoch + 1)


def prepare(plan: Plan, root: str | None) -> list[Task]:
    """Find out before any training what can be wrong with a plan: configuration, data, network, map.

    Args:
        plan: The plan; its names have been checked.
        root: Folder of the data set, for data modules that read one.

    Returns:
        The tasks. The data have been downloaded, if they can be.

    Raises:
        ValueError: Something is wrong.
    """
    configuration = with_root(plan.fit, root)
    data = data_of(configuration)
    tasks = tasks_of(data)
    if len(tasks) < 2:
        raise ValueError(f"{type(data).__name__} has the one task {tasks[0].name!r}; a benchmark compares two or more")
    for task in tasks:
        _ = task.higher_is_better  # delta-m needs it, hours later
    for entry in plan.methods:
        create_method(entry.method, **entry.options).bind(len(tasks))
    data.prepare_data()  # before a network that may ask for pretrained weights
    _check_layers(plan, branchable_layers(backbone_of(configuration)))
    plan.check_runs([task.name for task in tasks])
    runs = plan.runs([task.name for task in tasks])
    first = next(run for run in runs if run.needs is None)
    with _quiet_lightning():
        cli = _instantiate(fit_configuration(plan, first, Path(), root))
        refuse_unsupported(cli.trainer)
        cli.model.trainer = cli.trainer
        cli.model.configure_optimizers()
        _check_loaders(cli.trainer, cli.datamodule)
        flops(cli.model, input_shape_of(data))
        elsewhere = next((run for run in runs if run.entry.at == "representation"), None)
        if elsewhere is not None:  # networks with task-specific layers refuse it
            _instantiate(fit_configuration(plan, elsewhere, Path(), root))
    return tasks


def _check_loaders(trainer: pl.Trainer, data: pl.LightningDataModule) -> None:
    """Refuse data, or limits to them, that come to no batch; Lightning would train or test nothing, and not fail."""
    data.trainer = trainer
    data.setup("fit")
    loaders = [("limit_train_batches", data.train_dataloader())]
    data.setup("test")
    loaders.append(("limit_test_batches", data.test_dataloader()))
    for key, loader in loaders:
        limit = getattr(trainer, key)
        if not isinstance(loader, DataLoader) or isinstance(loader.dataset, IterableDataset):
            continue  # how much a stream has nobody knows
        batches = len(loader)
        if batches == 0:
            raise ValueError(f"{type(data).__name__} has no batch to {key.split('_')[1]} on; give it more data")
        if type(limit) is float and int(batches * limit) == 0:
            raise ValueError(f"fit.trainer.{key} is {limit}, of {batches} batches, which is none; give a larger part")


def _check_layers(plan: Plan, layers: list[str]) -> None:
    variants = {variant for entry in plan.methods for variant in entry.variants}
    if variants != {"plain"} and plan.top >= len(layers):
        raise ValueError(f"top={plan.top} would branch all {len(layers)} shared layers; leave at least one shared")
    for path in plan.maps:
        conflict_map = read_map(path, plan.severity)
        conflict_map.check_layers(layers)
        conflict_map.scores(plan.severity)


def execute(plan: Plan, run: Run, out: Path, root: str | None, report: Report) -> dict[str, Any]:
    """Train a run, from its last checkpoint if it was interrupted, test it, and keep its result.

    Args:
        plan: The plan it belongs to.
        run: The run.
        out: The benchmark's folder.
        root: Folder of the data set, for data modules that read one.
        report: Called with the run's id and its finished epochs.

    Returns:
        What ``results.json`` says of the run, except delta-m, which needs the other runs.
    """
    directory = run_directory(out, run.id)
    configuration = fit_configuration(plan, run, out, root)
    write_atomically(directory / "config.yaml", yaml.safe_dump(configuration, sort_keys=False))
    with _quiet_lightning():
        result = _train_and_test(configuration, run, plan.every, directory, report)
    keep_result(out, result)
    return result


def _train_and_test(
    configuration: Mapping[str, Any], run: Run, every: int, directory: Path, report: Report
) -> dict[str, Any]:
    cli = _instantiate(configuration)
    module, data = cli.model, cli.datamodule
    timer = Timer()
    callbacks: list[pl.Callback] = [timer, _EpochReport(run.id, report), LastEpochCheckpoint(str(directory))]
    conflict = None
    if run.variant != "single":
        conflict = ConflictCallback(every=every, path=str(directory / "conflict_map.json"))
        callbacks.insert(0, conflict)
    trainer = _trainer(configuration, directory, callbacks)
    checkpoint = directory / "last.ckpt"
    trainer.fit(module, datamodule=data, ckpt_path=str(checkpoint) if checkpoint.exists() else None)
    if trainer.global_step == 0:  # Lightning skips what it has no batches for
        raise ValueError("no step was taken: the data gave no batch to train on")
    metrics = trainer.test(module, datamodule=data, verbose=False)[0]
    sheet = prediction_sheet(module, next(iter(data.test_dataloader())))
    if sheet is not None:
        figures.save(sheet, directory / "predictions")
    by_layer = _conflict_by_layer(conflict)
    return {
        "id": run.id,
        "method": run.method,
        "variant": run.variant,
        "seed": run.seed,
        "metrics": _by_task(metrics),
        "parameters": count_parameters(module.backbone, module.heads),
        "parameters_base": count_parameters(
            network_for(backbone_of(configuration), [task.name for task in module.tasks], None), module.heads
        ),
        "flops": flops(module, input_shape_of(data)),
        "conflict_by_layer": by_layer,
        "conflict_rate": sum(by_layer.values()) / len(by_layer) if by_layer else None,
        "seconds": round(timer.time_elapsed("train"), 3),
    }


def fit_configuration(plan: Plan, run: Run, out: Path, root: str | None) -> dict[str, Any]:
    """What ``recon fit`` would be given to repeat the run; branched layers are named, not looked up again."""
    configuration = with_root(plan.fit, root)
    configuration["seed_everything"] = run.seed
    model = configuration.setdefault("model", {})
    model["method"] = run.entry.method
    model["method_options"] = dict(run.entry.options)
    if run.task is not None:
        model["only"] = [run.task]
    else:  # plain training too: the backbone may have task-specific layers of its own
        layers = _layers_to_branch(plan, run, out)
        model["branch"] = {"layers": layers, "init": plan.init, "statistics": plan.statistics}
        model["at"] = run.entry.at
    return configuration


def _layers_to_branch(plan: Plan, run: Run, out: Path) -> list[str]:
    if run.variant == "plain":
        return []
    names = branchable_layers(backbone_of(plan.fit))
    if run.variant == "first":
        return first_layers(names, plan.top)
    if run.variant == "last":
        return last_layers(names, plan.top)
    selected = _selected_by_map(plan, run, out, names)
    if run.variant == "random":  # which would be the same run twice, where there are few layers
        return random_layers(names, plan.top, run.seed, other_than=selected)
    return selected


def _selected_by_map(plan: Plan, run: Run, out: Path, names: list[str]) -> list[str]:
    """The layers that the run's conflict map selects; none if there is no map for it."""
    found = plan.map_of(run.entry)
    if found is None and run.needs is not None:
        found = str(run_directory(out, run.needs) / "conflict_map.json")
    if found is None:
        return []
    conflict_map = read_map(found, plan.severity)
    conflict_map.check_layers(names)
    return conflict_map.top(plan.top, plan.severity)


def _instantiate(configuration: Mapping[str, Any]) -> TrainingCLI:
    """Model and data of a configuration, all of whose keys are checked; its trainer keeps nothing on disk."""
    trainer = {**configuration["trainer"], "logger": False, "enable_checkpointing": False}
    try:
        return TrainingCLI(args={**configuration, "trainer": trainer}, run=False)
    except (ArgumentError, MisconfigurationException) as error:
        raise ValueError(f"fit: {error}") from error


def _trainer(configuration: Mapping[str, Any], directory: Path, callbacks: list[pl.Callback]) -> pl.Trainer:
    return pl.Trainer(
        **{
            "devices": 1,
            "limit_val_batches": 0,  # nothing is selected; the test after the last epoch is what is reported
            **configuration["trainer"],
            "default_root_dir": str(directory),
            "logger": CSVLogger(directory, name="logs"),
            "callbacks": callbacks,
            "plugins": WholeCheckpoints(),
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "num_sanity_val_steps": 0,
        }
    )


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Keep back what Lightning says of every run; its warnings are of choices that the plan has made."""
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning_fabric")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        warnings.filterwarnings("ignore", module="pytorch_lightning")
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*exists and is not empty.*")
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def _by_task(metrics: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """``{"test/digit/accuracy": 0.9}`` as ``{"digit": {"accuracy": 0.9}}``."""
    by_task: dict[str, dict[str, float]] = {}
    for key, value in metrics.items():
        _, task, name = key.split("/", 2)
        if not math.isfinite(value):
            raise ValueError(
                f"the test gave {task}/{name} = {value}, which is no result; does the test set have truth?"
            )
        by_task.setdefault(task, {})[name] = value
    return by_task


def _conflict_by_layer(conflict: ConflictCallback | None) -> dict[str, float]:
    if conflict is None or conflict.analyzer is None:
        return {}
    return conflict.analyzer.conflict_map().rates(0.0)
