"""All checks before any training: configuration, data, network, methods and conflict maps."""

import math
from collections.abc import Sequence
from pathlib import Path

import pytorch_lightning as pl
from torch.utils.data import DataLoader, IterableDataset

from recon.branching import TaskTree
from recon.conflict import Rule, read_map
from recon.data.contract import tasks_of
from recon.data.held_out import TRAINING
from recon.engine.accumulation import check_accumulates
from recon.engine.checks import check_one_process
from recon.engine.memory import check_alone, check_whole_batch
from recon.errors import number_of
from recon.experiments.controls import norms_of
from recon.experiments.cost import flops_of_sample
from recon.experiments.entry import WIDER, MethodEntry
from recon.experiments.fit import Fit
from recon.experiments.folder import ResultsFolder
from recon.experiments.grid import holding_out
from recon.experiments.job import Job
from recon.experiments.loggers import loggers_of
from recon.experiments.plan import Plan
from recon.experiments.run import quiet_lightning
from recon.experiments.runs import Run
from recon.experiments.search import check_proxy, stop_options
from recon.experiments.selection import check_rule, prices_on, selected_layers
from recon.experiments.sweep import highest, proposal
from recon.experiments.width import Width
from recon.methods import create_method
from recon.tasks.task import Task
from recon.training.branch_options import branchable_layers, check_fits, parted_layers
from recon.training.refusals import refuse_unsupported
from recon.training.searching.steps import steps_of_training
from recon.training.validation_batches import has_validation, refuse_missing_validation


def check_before_training(plan: Plan, fit: Fit) -> list[Task]:
    """Check all that can be known before any training, and prepare the data.

    Args:
        plan: The plan; its names have been checked (:meth:`Plan.check`).
        fit: Its ``fit`` with the folder of the data.

    Returns:
        The tasks. The data have been downloaded, if they can be.

    Raises:
        ValueError: Configuration, data, network, a method or a conflict map is refused.
    """
    loggers_of(fit.configuration["trainer"].get("logger"), Path(), "run")
    data = fit.data()
    tasks = tasks_of(data)
    if len(tasks) < 2:
        raise ValueError(f"{type(data).__name__} has the one task {tasks[0].name!r}; a benchmark compares two or more")
    for task in tasks:
        _ = task.higher_is_better  # delta-m needs it, hours later
    for entry in plan.methods:
        create_method(entry.method, **entry.options).bind(len(tasks))
        if entry.sweep:
            proposal(entry.sweep, 0, [])  # Optuna is there, and takes the ranges
    data.prepare_data()  # before a network that may ask for pretrained weights
    _check_held_out(plan.methods, fit)
    for entries in _by_network(plan.methods):
        own = fit.with_model(entries[0].model)
        _check_layers(plan, entries, own)
        _check_widths(plan, entries, own)
    names = [task.name for task in tasks]
    for path in plan.trees:
        TaskTree.load(path).check_tasks(names)
    plan.check_runs(names)
    _check_proxy(plan, fit, plan.runs(names))
    _check_runs(plan, fit, plan.runs(names))
    return tasks


def _by_network(entries: Sequence[MethodEntry]) -> list[list[MethodEntry]]:
    """The entries in groups of the same network."""
    groups: dict[str, list[MethodEntry]] = {}
    for entry in entries:
        groups.setdefault(entry.network, []).append(entry)
    return list(groups.values())


def _check_layers(plan: Plan, entries: Sequence[MethodEntry], fit: Fit) -> None:
    """Refuse rules that select no layers of the entries' network, or all, and maps of others."""
    backbone, tree = fit.backbone(), entries[0].tree
    parted = parted_layers(tree)
    branching = [entry for entry in entries if entry.branches_top]
    most = [Rule(top=highest(entry.sweep["top"])) for entry in entries if "top" in entry.sweep]
    for rule in dict.fromkeys((*map(plan.rule_of, branching), *most)):
        check_rule(rule, fit, backbone, tree)
    if any({"norms", "norms_random"} & {*entry.variants} for entry in entries):
        norms_of(backbone, branchable_layers(backbone, parted))
    if any("random_flops" in entry.variants for entry in entries):
        prices_on(fit, backbone, branchable_layers(backbone, parted), Rule(flops=1.0), tree)
    for path in sorted({path for entry in entries if (path := plan.map_of(entry)) is not None}):
        conflict_map = read_map(path, plan.severity)
        check_fits(conflict_map, backbone, parted)
        conflict_map.scores(plan.severity)
        if any(plan.map_of(one) == path and (one.groups or one.growth) is not None for one in entries):
            conflict_map.joins(conflict_map.layers[0])  # an imported map has no cosines
        for rule in dict.fromkeys(plan.rule_of(entry) for entry in branching if plan.map_of(entry) == path):
            selected_layers(conflict_map, rule, plan.severity, fit, backbone, tree)


def _check_widths(plan: Plan, entries: Sequence[MethodEntry], fit: Fit) -> None:
    """Refuse wider networks where the backbone has no width, or cannot be made a little wider."""
    for entry in entries:
        if {*WIDER} & {*entry.variants}:
            if "heads" in fit.configuration["model"]:
                raise ValueError(
                    f"method {entry.label} asks for a wider network, and fit.model.heads are of one width; leave the "
                    "heads to the backbone, or leave out " + " and ".join(WIDER)
                )
            width = Width(fit, plan.width_of(entry))
            width.fit_of(width.number + 1).without_files().backbone()


def _check_runs(plan: Plan, fit: Fit, runs: Sequence[Run]) -> None:
    """Build the first run of each network and way to weigh gradients, up to the first step."""
    firsts: dict[tuple[str, ...], Run] = {}
    for run in runs:
        if not run.waits_for:
            entry, own = run.entry, "search" if run.variant == "search" else ""
            if run.point is not None:
                own = f"{run.label} {run.point}"
            firsts.setdefault((entry.network, entry.at, str(entry.granularity), entry.memory, own), run)
    with quiet_lightning():
        for number, run in enumerate(firsts.values()):
            command = Job(plan, run, fit, ResultsFolder(Path())).own_fit().command()
            refuse_unsupported(command.trainer)
            command.model.trainer = command.trainer
            command.model.configure_optimizers()
            if number == 0:  # all runs have the same data
                data = fit.data() if run.variant == "grid" else command.datamodule
                _check_window(plan, command.trainer, _check_loaders(command.trainer, data))
                _check_validation(plan.methods, data)
                _check_accumulation(plan.methods, command.trainer)
                _check_devices(plan.methods, command.trainer)
            if not run.point:  # other settings of a grid have the same network
                flops_of_sample(command.model, command.datamodule)


def _check_window(plan: Plan, trainer: pl.Trainer, batches: float) -> None:
    """Refuse searches in whose training no selection can be stable."""
    stop = stop_options(plan.stop, plan.top, plan.severity)
    if stop is not None:
        stop.stable.check_steps(steps_of_training(trainer, batches), plan.every)


def _check_proxy(plan: Plan, fit: Fit, runs: Sequence[Run]) -> None:
    """Refuse a search whose selection can never change, or a proxy of other layers."""
    stop = stop_options(plan.stop, plan.top, plan.severity)
    for entry in {run.entry.network: run.entry for run in runs if run.variant == "search"}.values():
        own = fit.with_model(entry.model)
        if stop is not None:
            stop.stable.check_layers(branchable_layers(own.backbone(), parted_layers(entry.tree)))
        if plan.proxy is not None:
            with quiet_lightning():
                check_proxy(own, plan.proxy)


def _check_held_out(entries: Sequence[MethodEntry], fit: Fit) -> None:
    """Refuse a grid where the data cannot hold out a share of training, or do so for a method."""
    arguments = fit.configuration["data"].get("init_args") or {}
    for entry in entries:
        if entry.held_out is None:
            continue
        kind = "sweep" if entry.sweep else "grid"
        if arguments.get("held_out"):
            raise ValueError(
                f"method {entry.label} has a {kind}, which holds out training data by itself; leave out "
                "fit.data.init_args.held_out, which is for methods that learn on it"
            )
        try:
            data = holding_out(fit, entry.held_out).data()
            data.setup("fit")
            loaders = data.train_dataloader()
            if not has_validation(loaders):
                raise ValueError("its train_dataloader gives none")
            refuse_missing_validation(create_method("joint"), loaders, tasks=2)
        except ValueError as error:
            raise ValueError(
                f"method {entry.label} has a {kind}, and the data cannot hold out a validation split of training "
                f"({error}); give data with the argument held_out, or leave out the {kind}"
            ) from error


def _check_accumulation(entries: Sequence[MethodEntry], trainer: pl.Trainer) -> None:
    """Refuse methods that need whole batches where the trainer divides them."""
    if trainer.accumulate_grad_batches == 1:
        return
    for entry in entries:
        if set(entry.variants) != {"single"}:
            method = create_method(entry.method, **entry.options)
            check_accumulates(method, entry.at == "representation", tasks=2)
            check_whole_batch(entry.memory, tasks=2)


def _check_devices(entries: Sequence[MethodEntry], trainer: pl.Trainer) -> None:
    """Refuse methods that work in one process where the trainer starts several."""
    processes = trainer.num_devices * trainer.num_nodes
    for entry in entries:
        if set(entry.variants) != {"single"}:
            check_one_process(create_method(entry.method, **entry.options), 2, processes)
            check_alone(entry.memory, processes > 1)


def _check_validation(entries: Sequence[MethodEntry], data: pl.LightningDataModule) -> None:
    """Refuse methods that need validation batches where the data have none."""
    for entry in entries:
        if set(entry.variants) != {"single"}:
            refuse_missing_validation(create_method(entry.method, **entry.options), data.train_dataloader(), tasks=2)


def _check_loaders(trainer: pl.Trainer, data: pl.LightningDataModule) -> float:
    """Refuse data, or limits to them, without any batch; Lightning would silently do nothing.

    Returns:
        Batches of an epoch of training in each process, infinite where nobody knows.
    """
    data.trainer = trainer
    data.setup("fit")
    loaders = data.train_dataloader()
    training = loaders[TRAINING] if has_validation(loaders) else loaders
    processes = trainer.num_devices * trainer.num_nodes
    batches = _number_of_batches(training, processes, trainer.limit_train_batches, "train", data)
    data.setup("test")
    _number_of_batches(data.test_dataloader(), processes, trainer.limit_test_batches, "test", data)
    return batches


def _number_of_batches(
    loader: object, processes: int, limit: float | None, use: str, data: pl.LightningDataModule
) -> float:
    """The batches that a limit leaves each process of a loader, infinite where nobody knows."""
    if not isinstance(loader, DataLoader) or isinstance(loader.dataset, IterableDataset):
        return math.inf
    batches = math.ceil(len(loader) / processes)
    if batches == 0:
        raise ValueError(f"{type(data).__name__} has no batch to {use} on; give it more data")
    left = int(batches * limit) if isinstance(limit, float) else min(batches, batches if limit is None else limit)
    if left == 0:
        raise ValueError(
            f"fit.trainer.limit_{use}_batches is {limit}, of {number_of(batches, 'batch', 'batches')}, which is none; "
            "give a larger part"
        )
    return left
