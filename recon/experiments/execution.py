"""One run of a benchmark: one Lightning fit in a folder of its own."""

import logging
import warnings
from argparse import ArgumentError
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any, TypeVar

import pytorch_lightning as pl
import torch
import yaml
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import Timer
from pytorch_lightning.loggers import CSVLogger
from torch import nn

from recon.branching.growth import flops as count_flops
from recon.conflict import ConflictMap, first_layers, last_layers, random_layers
from recon.conflict.reading import read_object
from recon.experiments.plan import Plan, Run
from recon.files import write_atomically, write_json
from recon.gradients import shared_layers
from recon.parser import Parser
from recon.tasks import Task
from recon.training import ConflictCallback, MultiTaskModule
from recon.training.configuration import TrainingCLI, WholeCheckpoints, last_epoch_checkpoint, tasks_of
from recon.training.module import refuse_unsupported

Report = Callable[[str, int], None]
T = TypeVar("T")

RESULT = (
    "id",
    "method",
    "variant",
    "seed",
    "metrics",
    "parameters",
    "parameters_base",
    "flops",
    "conflict_by_layer",
    "conflict_rate",
    "seconds",
)
"""What is known of a run by itself; ``results.json`` adds delta-m."""


class _EpochReport(pl.Callback):
    """Tells how many epochs of a run are done, those before a resume included."""

    def __init__(self, run: str, report: Report) -> None:
        self.run = run
        self.report = report

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.report(self.run, trainer.current_epoch)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.report(self.run, trainer.current_epoch + 1)


def run_directory(out: Path, run_id: str) -> Path:
    """Where a run keeps its configuration, checkpoint, logs, conflict map and result."""
    return out / "runs" / run_id


def finished_result(out: Path, run: Run) -> dict[str, Any] | None:
    """The result of a finished run; ``None`` when there is none yet.

    Raises:
        ValueError: The file is damaged, or the result of another run.
    """
    path = run_directory(out, run.id) / "result.json"
    if not path.exists():
        return None
    try:
        result = read_object(path)
    except ValueError as error:
        raise ValueError(f"{error}; or remove it to repeat the run") from error
    own = {"id": run.id, "method": run.method, "variant": run.variant, "seed": run.seed}
    if result.keys() != set(RESULT) or any(result[key] != value for key, value in own.items()):
        raise ValueError(f"{path} is not the result of {run.id}; remove it to repeat the run")
    return result


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
    data = _data(plan, root)
    tasks = tasks_of(data)
    if len(tasks) < 2:
        raise ValueError(f"{type(data).__name__} has the one task {tasks[0].name!r}; a benchmark compares two or more")
    for task in tasks:
        _ = task.higher_is_better  # delta-m needs it, hours later
    _check_layers(plan, _layers(plan))
    data.prepare_data()
    first = next(run for run in plan.runs([task.name for task in tasks]) if run.needs is None)
    with _quiet_lightning():
        cli = _instantiate(fit_configuration(plan, first, Path(), root))
        refuse_unsupported(cli.trainer)
        flops(cli.model, _input_shape(data))
    return tasks


def _data(plan: Plan, root: str | None) -> pl.LightningDataModule:
    try:
        return _build(pl.LightningDataModule, _with_root(plan.fit, root)["data"], "fit.data")
    except ValueError as error:
        hint = " (--data gives the root)" if "root" in str(error) else ""
        raise ValueError(f"{error}{hint}") from error


def _check_layers(plan: Plan, layers: list[str]) -> None:
    variants = {variant for entry in plan.methods for variant in entry.variants}
    if variants != {"plain"} and plan.top >= len(layers):
        raise ValueError(f"top={plan.top} would branch all {len(layers)} shared layers; leave at least one shared")
    if plan.map is not None:
        conflict_map = ConflictMap.load(plan.map)
        conflict_map.check_layers(layers)
        conflict_map.scores(plan.severity)


def _input_shape(data: pl.LightningDataModule) -> tuple[int, ...]:
    shape: tuple[int, ...] | None = getattr(data, "input_shape", None)
    if shape is None:
        raise ValueError(
            f"{type(data).__name__} has no input_shape, by which FLOPs are counted; give it that attribute"
        )
    return shape


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
    write_json(directory / "result.json", result)
    return result


def _train_and_test(
    configuration: Mapping[str, Any], run: Run, every: int, directory: Path, report: Report
) -> dict[str, Any]:
    cli = _instantiate(configuration)
    module, data = cli.model, cli.datamodule
    timer = Timer()
    callbacks: list[pl.Callback] = [timer, _EpochReport(run.id, report), last_epoch_checkpoint(str(directory))]
    conflict = None
    if run.variant != "single":
        conflict = ConflictCallback(every=every, path=str(directory / "conflict_map.json"))
        callbacks.insert(0, conflict)
    trainer = _trainer(configuration, directory, callbacks)
    checkpoint = directory / "last.ckpt"
    trainer.fit(module, datamodule=data, ckpt_path=str(checkpoint) if checkpoint.exists() else None)
    metrics = trainer.test(module, datamodule=data, verbose=False)[0]
    by_layer = _conflict_by_layer(conflict)
    return {
        "id": run.id,
        "method": run.method,
        "variant": run.variant,
        "seed": run.seed,
        "metrics": _by_task(metrics),
        "parameters": _count(module.backbone, module.heads),
        "parameters_base": _count(_backbone(configuration), module.heads),
        "flops": flops(module, _input_shape(data)),
        "conflict_by_layer": by_layer,
        "conflict_rate": sum(by_layer.values()) / len(by_layer) if by_layer else None,
        "seconds": round(timer.time_elapsed("train"), 3),
    }


def fit_configuration(plan: Plan, run: Run, out: Path, root: str | None) -> dict[str, Any]:
    """What ``recon fit`` would be given to repeat the run; branched layers are named, not looked up again."""
    configuration = _with_root(plan.fit, root)
    configuration["seed_everything"] = run.seed
    model = configuration.setdefault("model", {})
    model["method"] = run.entry.method
    model["method_options"] = dict(run.entry.options)
    if run.task is not None:
        model["only"] = [run.task]
    if run.variant not in ("single", "plain"):
        model["branch"] = {"layers": _layers_to_branch(plan, run, out), "init": plan.init}
    return configuration


def _layers_to_branch(plan: Plan, run: Run, out: Path) -> list[str]:
    names = _layers(plan)
    if run.variant == "random":
        return random_layers(names, plan.top, run.seed)
    if run.variant == "first":
        return first_layers(names, plan.top)
    if run.variant == "last":
        return last_layers(names, plan.top)
    path = Path(plan.map) if plan.map is not None else run_directory(out, str(run.needs)) / "conflict_map.json"
    conflict_map = ConflictMap.load(path)
    conflict_map.check_layers(names)
    return conflict_map.top(plan.top, plan.severity)


def _layers(plan: Plan) -> list[str]:
    """The shared layers of the backbone, before any branching."""
    return list(shared_layers(_backbone(plan.fit)))


def _backbone(configuration: Mapping[str, Any]) -> nn.Module:
    """The backbone as configured, before any branching."""
    return _build(nn.Module, configuration["model"]["backbone"], "fit.model.backbone")


def _with_root(configuration: dict[str, Any], root: str | None) -> dict[str, Any]:
    configuration = deepcopy(configuration)
    if root is not None:
        configuration["data"].setdefault("init_args", {})["root"] = root
    return configuration


def _build(kind: type[T], configuration: Any, key: str) -> T:
    """An object of a class, or of a class derived from it, from its ``class_path`` and ``init_args``."""
    parser = Parser(exit_on_error=False)
    parser.add_argument("--object", type=kind)
    try:
        built = parser.instantiate(parser.parse_object({"object": configuration})).object
    except ArgumentError as error:
        raise ValueError(str(error).replace("object", key, 1)) from error
    assert isinstance(built, kind)
    return built


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
    """Keep back what Lightning says of every run; its warnings have no cure here, as batches come whole from memory."""
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
        by_task.setdefault(task, {})[name] = value
    return by_task


def _count(*modules: nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


def flops(module: MultiTaskModule, input_shape: tuple[int, ...]) -> int:
    """Floating-point operations of one forward pass of one sample, as torch counts them (a multiply-add is two)."""
    with torch.no_grad():
        return count_flops(module.eval(), torch.zeros(1, *input_shape, device=module.device))


def _conflict_by_layer(conflict: ConflictCallback | None) -> dict[str, float]:
    if conflict is None or conflict.analyzer is None:
        return {}
    return conflict.analyzer.conflict_map().rates(0.0)
