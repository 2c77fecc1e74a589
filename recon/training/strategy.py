"""Lightning's strategies for several processes: those that work, and what they leave to the engine.

The engine shares task gradients among processes by itself, before the method. Lightning's DDP would
wrap the whole module for a reduction of its own, which stays idle in manual optimisation and holds
one more number for every parameter. So the module is not wrapped; the processes only begin with the
same weights, as under DDP.
"""

from functools import partial
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.accelerators import CPUAccelerator
from pytorch_lightning.overrides.distributed import _sync_module_states
from pytorch_lightning.strategies import (
    DDPStrategy,
    DeepSpeedStrategy,
    FSDPStrategy,
    ModelParallelStrategy,
    ParallelStrategy,
    SingleDeviceStrategy,
    Strategy,
)
from pytorch_lightning.strategies.launchers import _MultiProcessingLauncher, _SubprocessScriptLauncher
from pytorch_lightning.strategies.single_xla import SingleDeviceXLAStrategy
from pytorch_lightning.strategies.xla import XLAStrategy

_OWN_PROCESSES = ("ddp_spawn", "ddp_fork", "ddp_notebook")
_CURE = "use strategy='ddp', which shares the task gradients among the processes"
_REASONS = (
    (FSDPStrategy, f"FSDP divides the parameters, and a layer's task gradients are needed as one; {_CURE}"),
    (DeepSpeedStrategy, f"DeepSpeed makes its own backward and step, without task gradients; {_CURE}"),
    (ModelParallelStrategy, f"tensor and pipeline parallelism divide a layer, or the network, among devices; {_CURE}"),
    ((XLAStrategy, SingleDeviceXLAStrategy), "TPUs are not supported; use accelerator='gpu' or 'cpu'"),
)


def refuse_strategy(strategy: Strategy) -> None:
    """Refuse a strategy under which task gradients cannot be combined.

    Args:
        strategy: The strategy of a trainer.

    Raises:
        ValueError: It is none of one device or of DDP, it changes DDP's own reduction, or it
            synchronises batch norm on the CPU.
    """
    for kinds, reason in _REASONS:
        if isinstance(strategy, kinds):
            raise ValueError(f"{type(strategy).__name__}: {reason}")
    if not isinstance(strategy, SingleDeviceStrategy | DDPStrategy):
        raise ValueError(f"{type(strategy).__name__}: recon trains on one device or with DDP; use strategy='ddp'")
    if isinstance(strategy, DDPStrategy) and strategy._layer_sync and isinstance(strategy.accelerator, CPUAccelerator):
        raise ValueError("sync_batchnorm needs GPUs, torch has it for no CPU; leave it out, or use another norm")
    if isinstance(strategy, DDPStrategy) and (strategy._ddp_comm_hook or strategy._ddp_comm_state):
        raise ValueError(
            "DDPStrategy(ddp_comm_hook=...) changes DDP's own reduction of gradients, which recon replaces; leave it "
            "out"
        )


class Unwrapped(pl.Callback):
    """Lets a DDP strategy give all processes the same weights, and wrap nothing.

    After the fit the strategy is as before: the trainer may go on to train another module.
    """

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        strategy = trainer.strategy
        if stage == "fit" and isinstance(strategy, DDPStrategy):
            strategy.configure_ddp = partial(_give_same_weights, strategy)  # type: ignore[method-assign]

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        vars(trainer.strategy).pop("configure_ddp", None)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        vars(trainer.strategy).pop("configure_ddp", None)


def starts_processes(trainer: pl.Trainer) -> bool:
    """Whether a trainer would start processes of its own to train in."""
    strategy = trainer.strategy
    if isinstance(strategy.launcher, _MultiProcessingLauncher):
        return True
    if not isinstance(strategy, ParallelStrategy) or not isinstance(strategy.launcher, _SubprocessScriptLauncher):
        return False
    environment = strategy.cluster_environment
    return environment is not None and not environment.creates_processes_externally


def in_processes_of_others(strategy: Any) -> Any:
    """The value of ``Trainer(strategy=...)`` for a process that somebody else has started.

    >>> in_processes_of_others("ddp_spawn"), in_processes_of_others("auto")
    ('ddp', 'auto')

    Args:
        strategy: The value for a trainer that would start the processes.
    """
    return "ddp" if isinstance(strategy, str) and strategy.startswith(_OWN_PROCESSES) else strategy


def _give_same_weights(strategy: DDPStrategy) -> None:
    assert strategy.model is not None
    _sync_module_states(strategy.model)
