"""Settings that a MultiTaskModule refuses before any work, in one line that names the cure."""

import os
from collections.abc import Sized
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.accelerators import CPUAccelerator
from pytorch_lightning.callbacks import GradientAccumulationScheduler
from torch import nn

from recon.engine.checks import At
from recon.errors import number_of
from recon.models.contract import has_for_tasks
from recon.training.strategy import Unwrapped, refuse_strategy

_PROCESSES_PER_CORE = 4


def refuse_unsupported(trainer: pl.Trainer) -> None:
    """Refuse a trainer's settings that manual optimisation of task gradients cannot honour.

    Raises:
        ValueError: A strategy other than DDP for several devices, more processes than the machine
            can run, or another number of micro-batches in each epoch.
    """
    refuse_strategy(trainer.strategy)
    refuse_too_many_processes(trainer)
    callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    if any(isinstance(callback, GradientAccumulationScheduler) for callback in callbacks):
        raise ValueError(
            "GradientAccumulationScheduler works only where Lightning makes the steps; give one number for all epochs: "
            "Trainer(accumulate_grad_batches=n)"
        )


def refuse_too_many_processes(trainer: pl.Trainer) -> None:
    """Refuse more processes on the CPU than a machine can run; it would run out of memory.

    Raises:
        ValueError: There are more than four for a core. Lightning itself counts accelerators.
    """
    cores = os.cpu_count() or 1
    most = _PROCESSES_PER_CORE * cores
    if isinstance(trainer.accelerator, CPUAccelerator) and trainer.num_devices > most:
        raise ValueError(
            f"devices={trainer.num_devices} asks for as many processes on the CPU, which has "
            f"{number_of(cores, 'core')}; give {cores}, or {most} at most"
        )


def callbacks_for(trainer: Any) -> list[pl.Callback]:
    """The callback that a module's training needs in a trainer, unless it has one.

    Args:
        trainer: The trainer; one with unsupported settings is refused.
    """
    refuse_unsupported(trainer)
    return [] if any(isinstance(callback, Unwrapped) for callback in trainer.callbacks) else [Unwrapped()]


def check_norm(norm: float | None) -> None:
    """Refuse a norm to clip the gradient to that is not positive."""
    if norm is not None and not norm > 0:
        raise ValueError(f"gradient_clip_val={norm} must be a positive norm, or None for no clipping")


def check_one_norm(norm: float | None, trainer: pl.Trainer) -> None:
    """Refuse a module's norm to clip to beside other clipping by the trainer."""
    if norm is None:
        return
    if trainer.gradient_clip_val is not None:
        raise ValueError(
            f"gradient_clip_val is given twice: {norm:g} to MultiTaskModule, {trainer.gradient_clip_val:g} to the "
            "Trainer; give it to one of them"
        )
    if trainer.gradient_clip_algorithm == "value":
        raise ValueError(
            "MultiTaskModule(gradient_clip_val=...) clips by the norm, and the Trainer has "
            "gradient_clip_algorithm='value'; give gradient_clip_val to the Trainer too, and not to the module"
        )


def check_one_representation(backbone: nn.Module, at: At) -> None:
    """Refuse gradients at the features of a network that gives each task features of its own.

    Raises:
        ValueError: They are asked for.
    """
    if at == "representation" and has_for_tasks(backbone):
        raise ValueError(
            f"{type(backbone).__name__} gives each task features of its own, and has no single representation; use "
            "at='parameters'"
        )


def refuse_several_loaders(stage: str, batches_by_loader: Sized) -> None:
    """Refuse evaluation on several loaders, whose samples would be mixed in one metric."""
    if len(batches_by_loader) > 1:
        raise ValueError(
            f"{len(batches_by_loader)} {stage} loaders are given, and metrics are of one set; give one loader (a "
            "ConcatDataset joins sets), or call trainer.validate or trainer.test once for each"
        )


def check_same_network(saved: list[str], own: list[str]) -> None:
    """Refuse the checkpoint of another network in one line, where torch would list all weights."""
    missing, strange = [name for name in own if name not in saved], [name for name in saved if name not in own]
    if missing or strange:
        differences = [
            f"{what} ({', '.join(names[:2])}, ...)"
            for what, names in (
                (f"it lacks {len(missing)} tensors of this one", missing),
                (f"it has {len(strange)} that this one has not", strange),
            )
            if names
        ]
        raise ValueError(
            f"the checkpoint is of another network or method: {' and '.join(differences)}; "
            "give the backbone, branch and method that it was trained with; the config.yaml in its folder has them"
        )
