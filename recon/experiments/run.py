"""One run of a benchmark: one Lightning fit in a folder of its own."""

import logging
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import yaml
from pytorch_lightning.callbacks import Timer

from recon.data.held_out import VALIDATION
from recon.errors import NotFinite
from recon.experiments.cost import count_parameters, flops_of_sample, network_on_meta
from recon.experiments.entry import UNTESTED, WIDER
from recon.experiments.fit import Fit
from recon.experiments.job import Job
from recon.experiments.loggers import loggers_of
from recon.experiments.origin import origin_on
from recon.experiments.report import figures
from recon.experiments.report.predictions import prediction_sheet
from recon.experiments.reuse.canonical import TRAINER
from recon.experiments.search import stop_options
from recon.files.atomic import write_atomically
from recon.launching.group import train_together
from recon.moved import with_new_names
from recon.plugins import import_by_name
from recon.training import ConflictCallback, LiveView, MultiTaskModule
from recon.training.branch_options import BranchOptions, network_for
from recon.training.checkpoints import WholeCheckpoints
from recon.training.command import TrainingCLI
from recon.training.run_folder import LastEpochCheckpoint
from recon.training.searching.conflict import ConflictSearch
from recon.training.searching.proxy import Proxy
from recon.training.strategy import in_processes_of_others, starts_processes

Metrics = dict[str, dict[str, float]]
"""Task -> metric -> value."""

OnEpoch = Callable[[int], None]
"""Called with the number of a run's finished epochs, those before a resume included."""


class _EpochReport(pl.Callback):
    """Passes on how many epochs of a run are finished."""

    def __init__(self, on_epoch: OnEpoch) -> None:
        self.on_epoch = on_epoch

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.on_epoch(trainer.current_epoch)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.on_epoch(trainer.current_epoch + 1)


def execute(job: Job, on_epoch: OnEpoch) -> dict[str, Any]:
    """Train a run, from its last checkpoint if it was interrupted, test it, and keep its result.

    Args:
        job: The run and all it needs.
        on_epoch: Called with the number of finished epochs at the start and after each epoch.

    Returns:
        The run as ``results.json`` has it, except delta-m, which needs the other runs.

    Raises:
        ValueError: Nothing was trained, or a metric is not finite; a setting of a grid may diverge.
    """
    fit = job.own_fit()
    directory = job.folder.run(job.run.id)
    write_atomically(directory / "config.yaml", yaml.safe_dump(with_new_names(fit.configuration), sort_keys=False))
    with quiet_lightning():
        command = fit.command()
        if starts_processes(command.trainer):
            result = _together(job, command.trainer.num_devices, on_epoch)
        else:
            result = _train_and_test(job, fit, command, on_epoch)
    job.folder.keep(result)
    return result


def _together(job: Job, count: int, on_epoch: OnEpoch) -> dict[str, Any]:
    """Carry out a run in processes of its own, one for each device."""
    threads = max(1, torch.get_num_threads() // count)
    result: dict[str, Any] = train_together(count, partial(_take_part, job), threads, on_epoch)
    return result


def _take_part(job: Job, tell: OnEpoch) -> dict[str, Any]:
    for name in job.plan.imports:
        import_by_name(name)
    fit = job.own_fit()
    with quiet_lightning():
        return _train_and_test(job, fit, fit.command(), tell)


def _train_and_test(job: Job, fit: Fit, command: TrainingCLI, on_epoch: OnEpoch) -> dict[str, Any]:
    directory = job.folder.run(job.run.id)
    module, data = command.model, command.datamodule
    timer, conflict = Timer(), None
    callbacks: list[pl.Callback] = [timer, _EpochReport(on_epoch), LastEpochCheckpoint(str(directory))]
    if job.run.variant not in ("single", "grid"):
        conflict = _observer(job, module)
        callbacks.insert(0, conflict)
        if fit.section["trainer"].get("logger"):
            callbacks.append(LiveView(job.plan.severity))
    trainer = trainer_of(fit.configuration["trainer"], directory, callbacks)
    checkpoint = job.folder.checkpoint(job.run.id)
    metrics, diverged = _trained_and_tested(job, trainer, module, data, checkpoint if checkpoint.exists() else None)
    if trainer.is_global_zero and job.run.variant not in UNTESTED:
        draw_predictions(module, data, directory)
    by_layer = _conflict_by_layer(conflict)
    return {
        "id": job.run.id,
        "method": job.run.label,
        "variant": job.run.variant,
        "seed": job.run.seed,
        "metrics": metrics,
        "parameters": count_parameters(module.backbone, module.heads),
        "parameters_base": _unbranched_parameters(job, module),
        "flops": flops_of_sample(module, data),
        "conflict_by_layer": by_layer,
        "conflict_rate": sum(by_layer.values()) / len(by_layer) if by_layer else None,
        "seconds": round(timer.time_elapsed("train"), 3),
        "origin": origin_on(trainer.strategy.root_device),
    } | ({} if diverged is None else {"diverged": diverged})


def _observer(job: Job, module: MultiTaskModule) -> ConflictCallback:
    """The callback that writes a run's conflict map, and ends a search."""
    plan, path = job.plan, str(job.folder.conflict_map(job.run.id))
    if job.run.variant != "search":
        return ConflictCallback(every=plan.every, path=path)
    stop = stop_options(plan.stop, plan.top, plan.severity)
    if plan.proxy is None:
        return ConflictSearch(plan.every, path, stop)
    network = job.fit_before_proxy().command().model
    return ConflictSearch(plan.every, path, stop, Proxy(module, plan.proxy), network)


def _trained_and_tested(
    job: Job, trainer: pl.Trainer, module: MultiTaskModule, data: pl.LightningDataModule, checkpoint: Path | None
) -> tuple[Metrics, str | None]:
    """The metrics of a network after training; none, and why, for a setting that diverges.

    A setting of a grid is tested on the held-out share of training. Others must not diverge. A
    search is not tested.
    """
    try:
        trainer.fit(module, datamodule=data, ckpt_path=None if checkpoint is None else str(checkpoint))
        if trainer.global_step == 0:  # Lightning skips a loader without batches
            raise ValueError("no step was taken: the data gave no batch to train on")
        if job.run.variant == "search":
            return {}, None
        held_out = {"dataloaders": data.train_dataloader()[VALIDATION]} if job.run.variant == "grid" else None
        return _by_task(trainer.test(module, verbose=False, **(held_out or {"datamodule": data}))[0]), None
    except NotFinite as error:
        if job.run.variant != "grid" or trainer.world_size > 1:  # other processes would wait
            raise
        return {}, str(error)


def draw_predictions(module: MultiTaskModule, data: pl.LightningDataModule, directory: Path) -> None:
    """Draw the predictions for the first batch of the test set, if tasks have pictures."""
    sheet = prediction_sheet(module, next(iter(data.test_dataloader())))
    if sheet is not None:
        figures.save(sheet, directory / "predictions")


def _unbranched_parameters(job: Job, module: MultiTaskModule) -> int:
    """Parameters of the plain network, with no more branches than its own and its task tree's."""
    if job.run.variant == "search":  # of the network that is searched
        return count_parameters(module.backbone, module.heads)
    backbone = job.network().backbone()
    options = None if job.run.entry.tree is None else BranchOptions(tree=job.run.entry.tree)
    if job.run.variant in WIDER:  # its heads are wider too
        plain = network_on_meta(backbone, job.fit.data(), options)
        return count_parameters(plain.backbone, plain.heads)
    return count_parameters(network_for(backbone, [task.name for task in module.tasks], options), module.heads)


def trainer_of(options: Mapping[str, Any], directory: Path, callbacks: list[pl.Callback]) -> pl.Trainer:
    """The trainer of a run.

    Args:
        options: The section ``trainer`` of its configuration.
        directory: Folder of its logs.
        callbacks: Its callbacks.
    """
    return pl.Trainer(
        **{
            **TRAINER,
            **options,
            "strategy": in_processes_of_others(options.get("strategy", "auto")),
            "default_root_dir": str(directory),
            "logger": loggers_of(options.get("logger"), directory, directory.name),
            "callbacks": callbacks,
            "plugins": WholeCheckpoints(),
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "num_sanity_val_steps": 0,
        }
    )


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Silence Lightning, whose comments and warnings concern choices that the plan has made."""
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


def _by_task(metrics: Mapping[str, float]) -> Metrics:
    """``{"test/digit/accuracy": 0.9}`` as ``{"digit": {"accuracy": 0.9}}``."""
    by_task: Metrics = {}
    for key, value in metrics.items():
        _, task, name = key.split("/", 2)
        if not math.isfinite(value):
            raise NotFinite(f"the test gave {task}/{name} = {value}, which is no result; does the test set have truth?")
        by_task.setdefault(task, {})[name] = value
    return by_task


def _conflict_by_layer(conflict: ConflictCallback | None) -> dict[str, float]:
    if conflict is None or conflict.analyzer is None:
        return {}
    return conflict.analyzer.conflict_map().rates(0.0)
