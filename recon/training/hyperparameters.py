"""The choices of a training as plain values, for the tables of loggers."""

import inspect
from typing import Any

import pytorch_lightning as pl
from torch import nn

from recon.engine.groups import Granularity
from recon.gradients.layers import network_name
from recon.methods import Method
from recon.training.stepping import SteppedNetwork


def hyperparameters(module: SteppedNetwork, trainer: pl.Trainer) -> dict[str, str | int | float | bool]:
    """The method with its options, network, tasks, branches, optimizer and seed.

    Args:
        module: A :class:`recon.MultiTaskModule` whose training begins.
        trainer: Its trainer.

    Returns:
        Numbers and texts by name, such as ``method/c``.
    """
    method: Method = module.method
    granularity: Granularity = module.granularity
    values: dict[str, Any] = {
        "method": type(method).__name__,
        **{f"method/{name}": value for name, value in options_of(method).items()},
        "tasks": ", ".join(module.task_names),
        "backbone": network_name(module.backbone),
        "parameters": sum(parameter.numel() for parameter in module.parameters()),
        "branched": "" if module.branch is None else ", ".join(module.branch.layers or ()),
        "update_scale": module.update_scale,
        "at": module.at,
        "granularity": granularity if isinstance(granularity, str) else ", ".join(granularity),
        "memory": module.memory,
        "gradient_clip_val": module.gradient_clip_val or trainer.gradient_clip_val or 0.0,
        "accumulate_grad_batches": trainer.accumulate_grad_batches,
        "precision": str(trainer.precision),
        "devices": trainer.num_devices * trainer.num_nodes,
        "max_epochs": trainer.max_epochs or -1,
        "seed": trainer.lightning_module.run_seed,
        **_of_optimizer(trainer.optimizers[0]),
    }
    return {name: value for name, value in values.items() if isinstance(value, str | int | float)}


def options_of(method: nn.Module) -> dict[str, Any]:
    """The arguments that a method was made with, so far as it keeps them under their names.

    >>> from recon import create_method
    >>> options_of(create_method("cagrad", c=0.2))
    {'c': 0.2, 'rescale': 1}
    """
    names = inspect.signature(type(method)).parameters
    return {name: vars(method)[name] for name in names if name in vars(method)}


def _of_optimizer(optimizer: Any) -> dict[str, Any]:
    inner = getattr(optimizer, "optimizer", optimizer)
    known = {name: value for name, value in inner.defaults.items() if type(value) in (int, float)}
    return {"optimizer": type(inner).__name__, **known, "lr": inner.param_groups[0]["lr"]}
