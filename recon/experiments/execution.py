"""One run of a benchmark: one Lightning fit in a folder of its own."""

import json
import warnings
from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, TypeVar

import jsonargparse
import pytorch_lightning as pl
import torch
import yaml
from pytorch_lightning.callbacks import Timer
from pytorch_lightning.loggers import CSVLogger
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from recon.conflict import ConflictMap, first_layers, last_layers, random_layers
from recon.files import write_json
from recon.experiments.plan import Plan, Run
from recon.gradients import shared_layers
from recon.training import ConflictCallback, MultiTaskModule
from recon.training.configuration import TrainingCLI, last_epoch_checkpoint

Report = Callable[[str, int], None]
T = TypeVar("T")


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
    """The result of a finished run; ``None`` when there is none yet."""
    path = run_directory(out, run.id) / "result.json"
    if not path.exists():
        return None
    try:
        result = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is not a result ({error}); remove it to repeat the run") from error
    assert isinstance(result, dict)
    return result


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
    directory.mkdir(parents=True, exist_ok=True)
    configuration = fit_configuration(plan, run, out, root)
    (directory / "config.yaml").write_text(yaml.safe_dump(configuration, sort_keys=False))
    cli = _instantiate(configuration)
    module, data = cli.model, cli.datamodule
    timer = Timer()
    callbacks: list[pl.Callback] = [timer, _EpochReport(run.id, report), last_epoch_checkpoint(str(directory))]
    conflict = None
    if run.variant != "single":
        conflict = ConflictCallback(every=plan.every, path=str(directory / "conflict_map.json"))
        callbacks.insert(0, conflict)
    trainer = _trainer(configuration, directory, callbacks)
    checkpoint = directory / "last.ckpt"
    with warnings.catch_warnings():
        # Both are said of every run, and neither has a cure: batches come whole from memory, without worker processes.
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*exists and is not empty.*")
        trainer.fit(module, datamodule=data, ckpt_path=str(checkpoint) if checkpoint.exists() else None)
        metrics = trainer.test(module, datamodule=data, verbose=False)[0]
    result = {
        "id": run.id,
        "method": run.method,
        "variant": run.variant,
        "seed": run.seed,
        "metrics": _by_task(metrics),
        "parameters": _count(module.backbone, module.heads),
        "parameters_base": _count(_build(nn.Module, plan.fit["model"]["backbone"]), module.heads),
        "flops": _flops(module, data.input_shape),
        "conflict_by_layer": _conflict_by_layer(conflict),
        "seconds": round(timer.time_elapsed("train"), 3),
    }
    rates = list(result["conflict_by_layer"].values())
    result["conflict_rate"] = sum(rates) / len(rates) if rates else None
    write_json(directory / "result.json", result)
    return result


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
    layers = shared_layers(_build(nn.Module, plan.fit["model"]["backbone"]))
    names = list(layers)
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


def build_data(plan: Plan, root: str | None) -> pl.LightningDataModule:
    """The plan's data module, reading from ``root`` if it reads anything."""
    return _build(pl.LightningDataModule, _with_root(plan.fit, root)["data"])


def _with_root(configuration: Mapping[str, Any], root: str | None) -> dict[str, Any]:
    configuration = deepcopy(dict(configuration))
    if root is not None:
        configuration["data"].setdefault("init_args", {})["root"] = root
    return configuration


def _build(kind: type[T], configuration: Any) -> T:
    """An object of a class, or of a class derived from it, from its ``class_path`` and ``init_args``."""
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--object", type=kind)
    built = parser.instantiate_classes(parser.parse_object({"object": configuration})).object
    assert isinstance(built, kind)
    return built


def _instantiate(configuration: Mapping[str, Any]) -> TrainingCLI:
    """Model and data of a configuration; the trainer is the runner's own."""
    return TrainingCLI(args={**configuration, "trainer": {"logger": False, "enable_checkpointing": False}}, run=False)


def _trainer(configuration: Mapping[str, Any], directory: Path, callbacks: list[pl.Callback]) -> pl.Trainer:
    given = {
        key: value for key, value in configuration.get("trainer", {}).items() if key not in ("callbacks", "logger")
    }
    return pl.Trainer(
        **{
            **given,
            "default_root_dir": str(directory),
            "logger": CSVLogger(directory, name="logs"),
            "callbacks": callbacks,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "num_sanity_val_steps": 0,
        }
    )


def _by_task(metrics: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """``{"test/digit/accuracy": 0.9}`` as ``{"digit": {"accuracy": 0.9}}``."""
    by_task: dict[str, dict[str, float]] = {}
    for key, value in metrics.items():
        _, task, name = key.split("/", 2)
        by_task.setdefault(task, {})[name] = value
    return by_task


def _count(*modules: nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


def _flops(module: MultiTaskModule, input_shape: tuple[int, ...]) -> int:
    """Floating-point operations of one forward pass of one sample, as torch counts them (a multiply-add is two)."""
    module.eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(torch.zeros(1, *input_shape, device=module.device))
    return int(counter.get_total_flops())


def _conflict_by_layer(conflict: ConflictCallback | None) -> dict[str, float]:
    if conflict is None or conflict.analyzer is None:
        return {}
    return conflict.analyzer.conflict_map().rates(0.0)
