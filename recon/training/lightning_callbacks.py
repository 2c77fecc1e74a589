"""Requests of Lightning's own callbacks that a module under manual optimisation honours itself."""

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import BaseFinetuning
from torch import nn


def optimized_parameters(module: pl.LightningModule) -> list[nn.Parameter]:
    """The parameters that an optimizer starts with.

    These are all parameters of the module. With ``BackboneFinetuning`` among the callbacks, frozen
    parameters are left out: the callback adds them to the optimizer when they thaw.
    """
    trainer: Any = module._trainer  # there is none when a benchmark checks its plan
    callbacks = [] if trainer is None else trainer.callbacks
    finetuning = any(isinstance(callback, BaseFinetuning) for callback in callbacks)
    return [parameter for parameter in module.parameters() if parameter.requires_grad or not finetuning]


def gathers_statistics(trainer: pl.Trainer) -> bool:
    """Whether ``StochasticWeightAveraging`` spends this epoch on statistics of averaged weights.

    The callback asks for no backward. It prevents optimizer steps by raising the number of batches
    to accumulate, which has no effect under manual optimisation: the module has to skip the step.
    """
    return trainer.fit_loop._skip_backward
