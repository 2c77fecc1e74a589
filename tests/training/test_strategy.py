from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
from pytorch_lightning.strategies import DDPStrategy, DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy
from pytorch_lightning.strategies.xla import XLAStrategy
from pytorch_lightning.utilities import rank_zero_only
from torch import nn

from recon.training import strategy as strategies
from recon.training.strategy import Unwrapped, in_processes_of_others, refuse_strategy, starts_processes


def trainer(**options: Any) -> pl.Trainer:
    return pl.Trainer(**{"accelerator": "cpu", "logger": False, "enable_progress_bar": False, **options})


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (FSDPStrategy, "FSDP divides the parameters.*use strategy='ddp'"),
        (DeepSpeedStrategy, "DeepSpeed makes its own backward.*use strategy='ddp'"),
        (ModelParallelStrategy, "tensor and pipeline parallelism.*use strategy='ddp'"),
        (XLAStrategy, "TPUs are not supported; use accelerator='gpu'"),
        (type("Bagua", (pl.strategies.ParallelStrategy,), {}), "recon trains on one device or with DDP"),
    ],
)
def test_a_strategy_that_divides_the_network_is_refused_by_name(
    kind: type, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kind, "__abstractmethods__", frozenset(), raising=False)
    made: Any = object.__new__(kind)  # DeepSpeed and TPUs are not at hand
    with pytest.raises(ValueError, match=f"{kind.__name__}: {words}"):
        refuse_strategy(made)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"strategy": DDPStrategy(ddp_comm_hook=lambda state, bucket: None)}, "ddp_comm_hook.*leave it out"),
        ({"strategy": "ddp", "sync_batchnorm": True}, "sync_batchnorm needs GPUs"),
    ],
)
def test_options_of_ddp_without_a_use_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        refuse_strategy(trainer(devices=2, **options).strategy)


@pytest.mark.parametrize("strategy", ["auto", "ddp", "ddp_spawn", "ddp_fork", "ddp_find_unused_parameters_true"])
def test_ddp_is_taken_in_all_its_forms(strategy: str) -> None:
    refuse_strategy(trainer(devices=2, strategy=strategy).strategy)


@pytest.mark.parametrize("ends", ["teardown", "on_exception"])
def test_a_module_is_left_unwrapped_until_the_end_of_the_fit(ends: str, monkeypatch: pytest.MonkeyPatch) -> None:
    same: list[nn.Module] = []
    monkeypatch.setattr(strategies, "_sync_module_states", same.append)
    fit = trainer(devices=2, strategy="ddp")
    assert isinstance(fit.strategy, DDPStrategy)
    fit.strategy.model = module = pl.LightningModule()
    callback = Unwrapped()
    callback.setup(fit, module, "fit")
    fit.strategy.configure_ddp()
    assert fit.strategy.model is module
    assert same == [module]
    getattr(callback, ends)(fit, module, "fit")
    assert fit.strategy.configure_ddp.__func__ is DDPStrategy.configure_ddp


@pytest.mark.parametrize(
    ("options", "starts"),
    [
        ({"devices": 1}, False),
        ({"devices": 2}, True),
        ({"devices": 2, "strategy": "ddp_spawn"}, True),
        ({"devices": 2, "strategy": "ddp_fork"}, True),
    ],
)
def test_processes_are_started_where_nobody_else_does(
    options: dict[str, Any], starts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert starts_processes(trainer(**options)) is starts
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(rank_zero_only, "rank", 0)  # the trainer sets it for the rest of this process
    strategy = in_processes_of_others(options.get("strategy", "auto"))
    assert not starts_processes(trainer(**{**options, "strategy": strategy}))


def test_a_strategy_with_options_stays_as_it_is() -> None:
    given = SimpleNamespace(class_path="DDPStrategy")
    assert in_processes_of_others(given) is given
