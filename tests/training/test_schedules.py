"""Learning-rate schedules over epochs, over steps and on a plateau, and what a finder of rates sees."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import LearningRateMonitor, ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.tuner import Tuner
from torch.optim.lr_scheduler import ExponentialLR, LambdaLR, LRScheduler, OneCycleLR, ReduceLROnPlateau
from torch.utils.data import DataLoader

from recon.data import Glyphs
from recon.models import LeNet
from recon.training import MultiTaskModule
from recon.training.run_folder import LastEpochCheckpoint

TrainerFactory = Callable[..., pl.Trainer]


def module_for(data: Glyphs, **options: Any) -> MultiTaskModule:
    torch.manual_seed(0)
    return MultiTaskModule(LeNet(), data.tasks, **options)


class Rates(pl.Callback):
    """The learning rate of every optimizer step, and after each epoch."""

    def __init__(self) -> None:
        self.of_steps: list[float] = []
        self.after_epochs: list[float] = []

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: Any, optimizer: torch.optim.Optimizer) -> None:
        self.of_steps.append(optimizer.param_groups[0]["lr"])

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self.after_epochs.append(trainer.optimizers[0].param_groups[0]["lr"])


def one_cycle(total_steps: int) -> Callable[[torch.optim.Optimizer], LRScheduler]:
    return lambda optimizer: OneCycleLR(optimizer, max_lr=0.1, total_steps=total_steps)


def test_a_schedule_over_steps_is_that_of_a_loop_by_hand(glyphs: Glyphs, trainer: TrainerFactory) -> None:
    rates = Rates()
    module = module_for(glyphs, scheduler=one_cycle(6), scheduler_interval="step")
    trainer(max_epochs=2, callbacks=[rates]).fit(module, datamodule=glyphs)

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(()))], lr=0.1, momentum=0.9)
    scheduler, expected = one_cycle(6)(optimizer), []
    for _ in range(6):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates.of_steps == pytest.approx(expected)
    assert rates.after_epochs == pytest.approx([expected[-1]])  # torch's would rise again after the last step


def test_one_cycle_over_epochs_ends_with_training_too(glyphs: Glyphs, trainer: TrainerFactory) -> None:
    rates = Rates()
    trainer(max_epochs=3, callbacks=[rates]).fit(module_for(glyphs, scheduler=one_cycle(3)), datamodule=glyphs)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(()))], lr=0.1)
    scheduler = one_cycle(3)(optimizer)
    expected = [scheduler.get_last_lr()[0] for _ in range(3) if optimizer.step() or not scheduler.step()]
    assert rates.of_steps[3] == pytest.approx(expected[0])
    assert rates.after_epochs == pytest.approx([expected[1]])


def test_one_cycle_that_ends_before_training_is_an_error(glyphs: Glyphs, trainer: TrainerFactory) -> None:
    module = module_for(glyphs, scheduler=one_cycle(4), scheduler_interval="step")
    with pytest.raises(ValueError, match="OneCycleLR has come to the end of its total_steps=4, and training goes on"):
        trainer(max_epochs=2).fit(module, datamodule=glyphs)


@pytest.mark.parametrize("interval", ["step", "epoch"])
def test_a_resumed_schedule_goes_on_where_it_was(
    interval: str, glyphs: Glyphs, trainer: TrainerFactory, tmp_path: Path
) -> None:
    def fit(folder: str, epochs: int, checkpoint: str | None = None) -> tuple[Rates, dict[str, torch.Tensor]]:
        pl.seed_everything(0, verbose=False)
        rates = Rates()
        module = module_for(
            glyphs, scheduler=lambda optimizer: ExponentialLR(optimizer, 0.9), scheduler_interval=interval
        )
        run = trainer(
            max_epochs=epochs,
            enable_checkpointing=True,
            callbacks=[rates, LastEpochCheckpoint(str(tmp_path / folder))],
        )
        run.fit(module, datamodule=glyphs, ckpt_path=checkpoint)
        return rates, module.state_dict()

    whole, expected = fit("whole", 3)
    first, _ = fit("parts", 2)
    rest, resumed = fit("parts", 3, str(tmp_path / "parts" / "last.ckpt"))
    assert first.of_steps + rest.of_steps == whole.of_steps
    exponents = range(9) if interval == "step" else [step // 3 for step in range(9)]
    assert whole.of_steps == pytest.approx([0.1 * 0.9**exponent for exponent in exponents])
    assert [name for name in expected if not torch.equal(expected[name], resumed[name])] == []


def never_better(optimizer: torch.optim.Optimizer) -> ReduceLROnPlateau:
    """Halves the rate after each look but the first: no accuracy is better than another by 2."""
    return ReduceLROnPlateau(optimizer, mode="max", factor=0.5, patience=0, threshold=2, threshold_mode="abs")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [0.1, 0.1, 0.05, 0.025, 0.0125]),
        ({"check_val_every_n_epoch": 2}, [0.1, 0.1, 0.1, 0.1, 0.05]),  # epochs without news do not count
        ({"num_sanity_val_steps": 1}, [0.1, 0.1, 0.05, 0.025, 0.0125]),
    ],
    ids=["each epoch", "each second epoch", "sanity check"],
)
def test_a_plateau_is_looked_for_after_each_validation(
    options: Any, expected: list[float], glyphs: Glyphs, trainer: TrainerFactory
) -> None:
    rates = Rates()
    module = module_for(glyphs, scheduler=never_better, monitor="val/digit/accuracy")
    trainer(max_epochs=5, callbacks=[rates], **options).fit(module, datamodule=glyphs)
    assert rates.of_steps[::3] == pytest.approx(expected)


@pytest.mark.parametrize("on_validation_end", [False, True], ids=["epoch end", "validation end"])
def test_a_schedule_on_a_plateau_resumes_exactly(
    on_validation_end: bool, glyphs: Glyphs, trainer: TrainerFactory, tmp_path: Path
) -> None:
    def fit(folder: str, epochs: int, checkpoint: str | None = None) -> dict[str, torch.Tensor]:
        pl.seed_everything(0, verbose=False)
        module = module_for(glyphs, scheduler=never_better, monitor="val/digit/accuracy")
        keep = ModelCheckpoint(tmp_path / folder, filename="last", save_on_train_epoch_end=not on_validation_end)
        run = trainer(max_epochs=epochs, enable_checkpointing=True, callbacks=[keep])
        run.fit(module, datamodule=glyphs, ckpt_path=checkpoint)
        return {**module.state_dict(), "lr": torch.tensor(run.optimizers[0].param_groups[0]["lr"])}

    expected = fit("whole", 4)
    fit("parts", 2)
    resumed = fit("parts", 4, str(tmp_path / "parts" / "last.ckpt"))
    assert [name for name in expected if not torch.equal(expected[name], resumed[name])] == []


def test_a_plateau_of_the_training_loss_needs_no_validation(glyphs: Glyphs, trainer: TrainerFactory) -> None:
    rates = Rates()
    module = module_for(
        glyphs,
        scheduler=lambda optimizer: ReduceLROnPlateau(optimizer, patience=0, threshold=100, threshold_mode="abs"),
        monitor="loss/digit",
    )
    trainer(max_epochs=3, callbacks=[rates], limit_val_batches=0).fit(module, datamodule=glyphs)
    assert rates.of_steps[::3] == pytest.approx([0.1, 0.1, 0.01])


class Looks:
    """What a schedule on a plateau is shown."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def __call__(self, optimizer: torch.optim.Optimizer) -> ReduceLROnPlateau:
        values = self.values

        class Shown(ReduceLROnPlateau):
            def step(self, metrics: Any, epoch: Any = None) -> None:
                values.append(float(metrics))
                super().step(metrics)

        return Shown(optimizer)


def without_letters(loader: Any, first: int) -> DataLoader[Any]:
    """A loader of the same batches, without letters from a batch on."""
    batches = list(loader)
    for _, targets in batches[first:]:
        del targets["letter"]
    return DataLoader(batches, batch_size=None)


class SometimesUnlabelled(Glyphs):
    """Three batches an epoch, of which the last two have no letters."""

    def train_dataloader(self) -> Any:
        return without_letters(super().train_dataloader(), 1)


@pytest.mark.parametrize(("monitor", "news"), [("loss/digit", 6), ("loss/letter", 2), ("loss/all", 6)])
@pytest.mark.parametrize("interval", ["step", "epoch"])
def test_a_plateau_is_looked_for_where_there_is_news(
    interval: str, monitor: str, news: int, trainer: TrainerFactory
) -> None:
    class WithSum(MultiTaskModule):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.log("loss/all", 1.0)
            return super().training_step(batch, batch_idx)

    data, looks, seen = SometimesUnlabelled(train_size=40, test_size=8, batch_size=16), Looks(), Rates()
    torch.manual_seed(0)
    module = WithSum(LeNet(), data.tasks, scheduler=looks, scheduler_interval=interval, monitor=monitor)
    trainer(max_epochs=2, callbacks=[seen], limit_val_batches=0).fit(module, datamodule=data)
    assert len(looks.values) == (news if interval == "step" else 2)
    assert len(set(looks.values)) == (1 if monitor == "loss/all" else len(looks.values))


def test_an_epoch_without_labels_of_the_monitored_task_is_no_news(trainer: TrainerFactory) -> None:
    class FirstEpochOnly(Glyphs):
        def train_dataloader(self) -> Any:
            return without_letters(super().train_dataloader(), 0 if self.trainer.current_epoch else 2)  # type: ignore[union-attr]

    data, looks = FirstEpochOnly(train_size=32, test_size=8, batch_size=16), Looks()
    torch.manual_seed(0)
    module = MultiTaskModule(LeNet(), data.tasks, scheduler=looks, monitor="loss/letter")
    trainer(max_epochs=3, reload_dataloaders_every_n_epochs=1, limit_val_batches=0).fit(module, datamodule=data)
    assert len(looks.values) == 1


def test_schedules_and_metrics_that_do_not_fit_are_refused(glyphs: Glyphs, trainer: TrainerFactory) -> None:
    def fit(**options: Any) -> None:
        limit = options.pop("limit_val_batches", 1.0)
        trainer(limit_val_batches=limit).fit(module_for(glyphs, **options), datamodule=glyphs)

    with pytest.raises(ValueError, match="ReduceLROnPlateau needs a metric: give its name as monitor"):
        fit(scheduler=never_better)
    with pytest.raises(ValueError, match="monitor='val/digit/accuracy' has no use: ExponentialLR looks at no metric"):
        fit(scheduler=lambda optimizer: ExponentialLR(optimizer, 0.9), monitor="val/digit/accuracy")
    with pytest.raises(ValueError, match=r"'val/digit/acc'.*nearest: 'val/digit/accuracy'"):
        fit(scheduler=never_better, monitor="val/digit/acc")
    with pytest.raises(ValueError, match="the trainer does not validate"):
        fit(scheduler=never_better, monitor="val/digit/accuracy", limit_val_batches=0)
    with pytest.raises(ValueError, match="unknown scheduler_interval 'steps'; nearest: 'step'"):
        module_for(glyphs, scheduler_interval="steps")


def test_the_monitor_of_learning_rates_logs_schedules_over_steps_each_step(
    glyphs: Glyphs, trainer: TrainerFactory, tmp_path: Path
) -> None:
    monitor = LearningRateMonitor()
    module = module_for(
        glyphs, scheduler=lambda optimizer: LambdaLR(optimizer, lambda step: 0.5**step), scheduler_interval="step"
    )
    run = trainer(logger=CSVLogger(tmp_path), log_every_n_steps=1, callbacks=[monitor])
    run.fit(module, datamodule=glyphs)
    assert monitor.lrs == {"lr-SGD": pytest.approx([0.1, 0.05, 0.025])}


def test_the_finder_of_learning_rates_sees_the_summed_loss_and_its_rate_is_used(
    glyphs: Glyphs, trainer: TrainerFactory
) -> None:
    module = module_for(glyphs, method="pcgrad")
    before = {name: value.clone() for name, value in module.state_dict().items() if isinstance(value, torch.Tensor)}
    with torch.no_grad():
        first = sum(module.losses(next(iter(glyphs.train_dataloader()))).values()).item()  # type: ignore[union-attr]
    run = trainer(max_epochs=8)
    found = Tuner(run).lr_find(module, datamodule=glyphs, min_lr=1e-5, max_lr=1e-1, num_training=24)
    assert found is not None
    assert found.results["lr"] == pytest.approx([1e-5 * 1e4 ** (step / 24) for step in range(24)], rel=0.5)
    assert all(math.isfinite(loss) for loss in found.results["loss"])
    # The finder smooths; the first value is the loss itself, but for the weight that it gives to
    # nothing.
    assert found.results["loss"][0] == pytest.approx(first * 0.02 / (1 - 0.98**2), rel=1e-3)
    assert [name for name, value in before.items() if not value.equal(module.state_dict()[name])] == []
    assert found.suggestion() == module.lr
    run.fit(module, datamodule=glyphs)
    assert run.optimizers[0].param_groups[0]["lr"] == module.lr
    assert run.global_step == 24
