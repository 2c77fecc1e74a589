"""Steps in Lightning over several micro-batches, clipped, and in float16."""

import copy
import csv
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import GradientAccumulationScheduler, ModelCheckpoint, StochasticWeightAveraging
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.plugins import MixedPrecision
from torch import Tensor, nn
from torch.utils.data import DataLoader

from recon.data import Glyphs
from recon.models import LeNet
from recon.tasks.task import Task
from recon.training import ConflictCallback, MultiTaskModule
from recon.training.run_folder import LastEpochCheckpoint

TrainerFactory = Callable[..., pl.Trainer]
Samples = list[tuple[Tensor, dict[str, Tensor]]]


class Small(nn.Module):
    """A network without statistics of batches."""

    num_features = 5

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x).tanh()).tanh()


def tasks() -> list[Task]:
    return [Task(name, nn.MSELoss(), dict, 1) for name in ("a", "b", "c")]


def samples(number: int, gaps: bool) -> Samples:
    """Samples of three tasks; with gaps, some lack a label, and windows of 6 lack a task."""
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(number, 6, generator=generator, dtype=torch.float64)
    targets = torch.randn(3, number, 1, generator=generator, dtype=torch.float64)
    if gaps:
        for task, unlabelled in enumerate(([1, 9, 10, 11], range(2, 5), [*range(6, 12), 13])):
            targets[task, [*unlabelled, 20, 21]] = torch.nan
    return [(x, dict(zip("abc", values, strict=True))) for x, values in zip(inputs, targets.unbind(1), strict=True)]


def module_of(**options: Any) -> MultiTaskModule:
    torch.manual_seed(0)
    made = MultiTaskModule(Small().double(), tasks(), **{"optimizer": partial(torch.optim.SGD, lr=0.05), **options})
    made.heads.double()
    return made


def loader(size: int, gaps: bool = False) -> DataLoader[Any]:
    return DataLoader(samples(22, gaps), batch_size=size)


def weights(module: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()])


# Accumulation -------------------------------------------------------------------------------------

METHODS: dict[str, dict[str, Any]] = {
    "joint": {},
    "uw": {},
    "dwa": {},
    "cagrad": {},
    "pcgrad": {},
    "graddrop": {},
    "nash_mtl": {},
    "psmgd": {"method": "mgda", "every": 2},
}


@pytest.mark.parametrize("gaps", [False, True], ids=["all labels", "missing labels"])
@pytest.mark.parametrize("method", METHODS)
def test_micro_batches_together_are_the_whole_batch(method: str, gaps: bool, trainer: TrainerFactory) -> None:
    """22 samples: three windows of 6, and a last one of 4, which is two micro-batches of 2."""
    trained = {}
    for size, number in ((6, 1), (2, 3)):
        module = module_of(method=method, method_options=METHODS[method])
        fit = trainer(max_epochs=2, accumulate_grad_batches=number)
        pl.seed_everything(0, verbose=False)
        fit.fit(module, loader(size, gaps))
        assert fit.global_step == module.engine.step_count == 8
        trained[number] = weights(module)
    torch.testing.assert_close(trained[3], trained[1], rtol=1e-9, atol=1e-12)
    assert (trained[1] - weights(module_of(method=method))).abs().max() > 1e-3


def test_a_window_without_any_label_makes_no_step(trainer: TrainerFactory) -> None:
    given = samples(18, gaps=False)
    for _, targets in given[6:12]:
        for target in targets.values():
            target.fill_(torch.nan)
    module, expected = module_of(method="mgda"), module_of(method="mgda")
    fit = trainer(accumulate_grad_batches=3)
    fit.fit(module, DataLoader(given, batch_size=2))
    assert fit.global_step == 2
    trainer().fit(expected, DataLoader([*given[:6], *given[12:]], batch_size=6))
    torch.testing.assert_close(weights(module), weights(expected), rtol=1e-9, atol=1e-12)


class Recorded(pl.Callback):
    """The values of each batch as callbacks see them, and the learning rate after it."""

    def __init__(self) -> None:
        self.outputs: list[float] = []
        self.losses: list[float | None] = []
        self.rates: list[float] = []

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, *args: Any) -> None:
        self.outputs.append(outputs["loss"].item())
        logged = trainer.callback_metrics.get("loss/a")
        self.losses.append(None if logged is None else logged.item())
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])


def test_logged_losses_are_means_over_the_window_and_loggers_get_each_once(
    trainer: TrainerFactory, tmp_path: Path
) -> None:
    module = module_of(method="joint")
    before = module.losses(next(iter(loader(6))))
    singly = [sum(module.losses(batch).values()).item() for batch in list(loader(2))[:3]]  # type: ignore[union-attr]
    seen = Recorded()
    logger = CSVLogger(tmp_path)
    trainer(accumulate_grad_batches=3, log_every_n_steps=1, logger=logger, callbacks=[seen, ConflictCallback()]).fit(
        module, loader(2)
    )
    assert seen.losses[:2] == [None, None]
    assert seen.losses[2:5] == [pytest.approx(before["a"].item())] * 3
    assert seen.outputs[:2] == pytest.approx(singly[:2])
    assert seen.outputs[2] == pytest.approx(sum(before.values()).item())  # type: ignore[union-attr]
    rows = list(csv.DictReader((Path(logger.log_dir) / "metrics.csv").open()))
    assert [row["step"] for row in rows] == ["0", "1", "2", "3"]
    assert {task: float(rows[0][f"loss/{task}"]) for task in before} == {
        t: pytest.approx(v.item()) for t, v in before.items()
    }
    assert all(row["conflict"] for row in rows)


@pytest.mark.parametrize("number", [1, 2])
def test_a_schedule_over_steps_goes_by_optimizer_steps(number: int, trainer: TrainerFactory) -> None:
    module = module_of(
        scheduler=lambda optimizer: torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5), scheduler_interval="step"
    )
    seen = Recorded()
    fit = trainer(accumulate_grad_batches=number, callbacks=[seen])
    fit.fit(module, loader(4))
    assert fit.estimated_stepping_batches == fit.global_step == 6 / number
    assert seen.rates == [0.05 * 0.5 ** ((batch + 1) // number) for batch in range(6)]


def test_checkpoints_by_step_are_written_between_windows_alone(trainer: TrainerFactory, tmp_path: Path) -> None:
    keep = ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=1, save_top_k=-1)
    trainer(accumulate_grad_batches=3, enable_checkpointing=True, callbacks=[keep]).fit(module_of(), loader(2))
    saved = [torch.load(path, weights_only=False) for path in sorted(tmp_path.glob("*.ckpt"))]
    assert [checkpoint["global_step"] for checkpoint in saved] == [1, 2, 3, 4]
    batches = [checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["current"]["ready"] for checkpoint in saved]
    assert batches == [3, 6, 9, 11]


class Ended(Exception):
    pass


class EndWithin(pl.Callback):
    """Ends the run in its second epoch, within a window."""

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.current_epoch == 1 and batch_idx == 4:
            assert pl_module.window.batches == 2
            raise Ended


@pytest.mark.parametrize("method", ["pcgrad", "dwa"])
def test_a_run_killed_within_a_window_resumes_as_if_it_had_not_been(
    method: str, trainer: TrainerFactory, tmp_path: Path
) -> None:
    def fit(folder: Path, *callbacks: pl.Callback) -> Tensor:
        module = module_of(method=method)
        pl.seed_everything(4, verbose=False)
        last = folder / "last.ckpt"
        trainer(
            max_epochs=3,
            accumulate_grad_batches=3,
            enable_checkpointing=True,
            callbacks=[*callbacks, LastEpochCheckpoint(str(folder))],
        ).fit(module, loader(2), ckpt_path=str(last) if last.exists() else None)
        return weights(module)

    expected = fit(tmp_path / "whole")
    with pytest.raises(Ended):
        fit(tmp_path / "parts", EndWithin())
    assert torch.equal(fit(tmp_path / "parts"), expected)


class Resumable:
    """The batches in order, from where its state says."""

    def __init__(self) -> None:
        self.next = 0

    def __iter__(self) -> Iterator[Any]:
        for batch in list(loader(2))[self.next :]:
            self.next += 1
            yield batch
        self.next = 0

    def __len__(self) -> int:
        return 11

    def state_dict(self) -> dict[str, int]:
        return {"next": self.next}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.next = state["next"]


class SaveWithin(pl.Callback):
    """Saves a checkpoint after a batch, as a validation in the middle of an epoch may do."""

    def __init__(self, batch: int, path: Path) -> None:
        self.batch, self.path = batch, path

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == self.batch:
            trainer.save_checkpoint(self.path)


def fit_resumable(trainer: TrainerFactory, *callbacks: pl.Callback, checkpoint: Path | None = None) -> Any:
    module = module_of(method="pcgrad")
    pl.seed_everything(4, verbose=False)
    run = trainer(accumulate_grad_batches=3, callbacks=[*callbacks])
    run.fit(module, Resumable(), ckpt_path=checkpoint)
    return run.global_step, weights(module)


@pytest.mark.parametrize("batch", [0, 1, 3, 4, 5])
def test_a_checkpoint_from_within_a_window_repeats_the_window(
    batch: int, trainer: TrainerFactory, tmp_path: Path
) -> None:
    path = tmp_path / "within.ckpt"
    _, expected = fit_resumable(trainer, SaveWithin(batch, path))
    progress = torch.load(path)["loops"]["fit_loop"]["epoch_loop.batch_progress"]["current"]
    assert progress["ready"] == (batch + 1) // 3 * 3
    steps, resumed = fit_resumable(trainer, checkpoint=path)
    assert steps == 4
    assert torch.equal(resumed, expected)


@pytest.mark.parametrize("batch", [6, 7])
def test_a_checkpoint_from_within_the_first_window_of_a_resumed_run_repeats_it_too(
    batch: int, trainer: TrainerFactory, tmp_path: Path
) -> None:
    first, second = tmp_path / "first.ckpt", tmp_path / "second.ckpt"
    _, expected = fit_resumable(trainer, SaveWithin(5, first))
    fit_resumable(trainer, SaveWithin(batch, second), checkpoint=first)
    assert torch.load(second)["loops"]["fit_loop"]["state_dict"]["combined_loader"] == [{"next": 6}]
    steps, resumed = fit_resumable(trainer, checkpoint=second)
    assert steps == 4
    assert torch.equal(resumed, expected)


class Skipping(MultiTaskModule):
    """Skips the rest of the first epoch, within a window."""

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> Any:
        super().on_train_batch_start(batch, batch_idx)
        return -1 if self.current_epoch == 0 and batch_idx == 4 else None


def test_a_window_that_is_cut_short_does_not_reach_into_the_next_epoch(trainer: TrainerFactory) -> None:
    torch.manual_seed(0)
    module = Skipping(Small().double(), tasks(), optimizer=partial(torch.optim.SGD, lr=0.05))
    module.heads.double()
    expected = copy.deepcopy(module)
    fit = trainer(max_epochs=2, accumulate_grad_batches=3)
    fit.fit(module, loader(2))
    assert fit.global_step == 1 + 4
    optimizer = torch.optim.SGD(expected.parameters(), lr=0.05)
    whole = list(loader(6))
    for batch in [whole[0], *whole]:
        optimizer.zero_grad()
        sum(expected.losses(batch).values()).backward()  # type: ignore[union-attr]
        optimizer.step()
    torch.testing.assert_close(weights(module), weights(expected), rtol=1e-9, atol=1e-12)


def test_weight_averaging_makes_no_steps_in_its_epoch_for_statistics(trainer: TrainerFactory) -> None:
    torch.manual_seed(0)
    backbone = nn.Sequential(Small(), nn.BatchNorm1d(5)).double()
    backbone.num_features = 5
    module = MultiTaskModule(backbone, tasks())
    module.heads.double()
    average = StochasticWeightAveraging(swa_lrs=0.05, swa_epoch_start=1, annealing_epochs=1)
    fit = trainer(max_epochs=3, accumulate_grad_batches=2, callbacks=[average])
    fit.fit(module, loader(4))
    assert fit.global_step == 3 * 3
    assert fit.accumulate_grad_batches == 2


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"method": "famo"}, "FAMO evaluates the losses of the whole batch again in its step"),
        ({"method": "mgda", "at": "representation"}, "at='representation' weights the gradients of a batch before"),
    ],
)
def test_what_cannot_accumulate_is_refused_before_any_work(options: Any, reason: str, trainer: TrainerFactory) -> None:
    class Untouched(pl.LightningDataModule):
        def prepare_data(self) -> None:
            raise AssertionError("data were prepared")

    with pytest.raises((TypeError, ValueError), match=reason):
        trainer(accumulate_grad_batches=2).fit(module_of(**options), datamodule=Untouched())
    single = module_of(**{**options, "only": ["a"]})  # one task is trained plainly
    trainer(accumulate_grad_batches=2).fit(single, loader(4))


def test_a_number_of_micro_batches_by_epoch_is_refused_by_name(trainer: TrainerFactory) -> None:
    with pytest.raises(ValueError, match="GradientAccumulationScheduler works only where Lightning makes the steps"):
        trainer(callbacks=[GradientAccumulationScheduler({0: 2})]).fit(module_of(), loader(4))


# Clipping -----------------------------------------------------------------------------------------


class Recorder(torch.optim.SGD):
    """Keeps the gradient of each step, as it is applied."""

    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters, lr=0.05)
        self.seen: list[Tensor] = []

    def step(self, closure: Any = None) -> Any:
        result = super().step(closure)  # Lightning clips in the closure
        self.seen.append(torch.cat([p.grad.flatten() for group in self.param_groups for p in group["params"]]))
        return result


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("algorithm", [None, "norm", "value"])
def test_the_trainer_clips_after_the_method(algorithm: str | None, number: int, trainer: TrainerFactory) -> None:
    gradients = {}
    for clip in (None, 0.01):
        module = module_of(method="mgda", optimizer=Recorder)
        options = {} if clip is None else {"gradient_clip_val": clip, "gradient_clip_algorithm": algorithm}
        fit = trainer(accumulate_grad_batches=number, **options)
        fit.fit(module, loader(4))
        gradients[clip] = fit.optimizers[0].seen[0]  # type: ignore[attr-defined]
    free, clipped = gradients[None], gradients[0.01]
    expected = free.clamp(-0.01, 0.01) if algorithm == "value" else free * (0.01 / free.norm())
    torch.testing.assert_close(clipped, expected, rtol=1e-4, atol=1e-9)  # torch adds 1e-6 to the norm


def test_clipping_is_asked_of_module_or_trainer(trainer: TrainerFactory) -> None:
    with pytest.raises(ValueError, match="gradient_clip_val is given twice: 1 to MultiTaskModule, 2 to the Trainer"):
        trainer(gradient_clip_val=2).fit(module_of(gradient_clip_val=1), loader(4))
    with pytest.raises(ValueError, match="clips by the norm, and the Trainer has gradient_clip_algorithm='value'"):
        trainer(gradient_clip_algorithm="value").fit(module_of(gradient_clip_val=1), loader(4))


# Float16 ------------------------------------------------------------------------------------------

WHOLE_BATCHES = ("famo", "fmtl", "samo", "modo")


def half(scale: float = 2.0**10) -> MixedPrecision:
    """Lightning's precision of a GPU, on the CPU; ``precision="16-mixed"`` there means bfloat16."""
    return MixedPrecision("16-mixed", "cpu", scaler=torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=1000))


@pytest.fixture
def plain_glyphs() -> Iterator[Glyphs]:
    yield Glyphs(train_size=64, test_size=8, batch_size=16)


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("joint", {}),
        ("uw", {}),
        ("famo", {}),
        ("mgda", {}),
        ("cagrad", {"gradient_clip_val": 0.5}),
        ("graddrop", {"update_scale": "mean"}),
        ("pcgrad", {}),
        ("mgda", {"at": "representation"}),
        ("fmtl", {"method_options": {"method": "mgda", "rho": 1.0}}),
        ("samo", {"method_options": {"method": "mgda"}}),  # rho as published: halves may turn the sign of a difference
        ("modo", {}),
    ],
)
def test_float16_steps_as_float32_does(
    method: str, options: Any, number: int, plain_glyphs: Glyphs, trainer: TrainerFactory
) -> None:
    if number > 1 and (method in WHOLE_BATCHES or "at" in options):
        pytest.skip("it takes whole batches")
    moved = []
    for plugins in (None, [half()]):
        torch.manual_seed(0)
        module = MultiTaskModule(LeNet(), plain_glyphs.tasks, method=method, optimizer=plain_sgd, **options)
        before = weights(module)
        pl.seed_everything(0, verbose=False)
        fit = trainer(max_steps=2, accumulate_grad_batches=number, plugins=plugins, limit_val_batches=0)
        fit.fit(module, datamodule=plain_glyphs)
        moved.append(weights(module) - before)
    assert nn.functional.cosine_similarity(*moved, dim=0) > 0.999
    assert moved[1].norm() == pytest.approx(moved[0].norm().item(), rel=0.02)


def plain_sgd(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.05)


class ForcedOverflow(nn.Module):
    """A loss that overflows at one of its calls."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at, self.calls = at, 0

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        loss = nn.functional.cross_entropy(prediction, target)
        self.calls += 1
        return loss * (torch.tensor(float("inf")) if self.calls - 1 == self.at else 1.0)


class States(pl.Callback):
    """The state of network, method and analyzer after each batch."""

    def __init__(self) -> None:
        self.after: list[dict[str, Any]] = []

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *args: Any) -> None:
        analyzer = pl_module.analyzer.state_dict()
        state = {**pl_module.state_dict(), **{f"analyzer.{key}": value for key, value in analyzer.items()}}
        state["rate"] = trainer.optimizers[0].param_groups[0]["lr"]
        state["momentum"] = [value["momentum_buffer"] for value in trainer.optimizers[0].state.values()]
        self.after.append(copy.deepcopy(state))


def equal(first: Any, second: Any) -> bool:
    if isinstance(first, Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict | list):
        keys = first.keys() if isinstance(first, dict) else range(len(first))
        return len(first) == len(second) and all(equal(first[key], second[key]) for key in keys)
    return bool(first == second)


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("joint", None),
        ("uw", None),
        ("famo", None),
        ("pcgrad", None),
        ("graddrop", None),
        ("nash_mtl", None),
        ("psmgd", {"method": "mgda", "every": 3}),
        ("fmtl", {"method": "moco", "rho": 0.1}),
        ("samo", {"method": "moco", "rho": 0.1}),
    ],
)
def test_an_overflow_changes_nothing_but_the_scale(
    method: str, options: Any, number: int, plain_glyphs: Glyphs, trainer: TrainerFactory
) -> None:
    if number > 1 and method in WHOLE_BATCHES:
        pytest.skip("it takes whole batches")
    torch.manual_seed(0)
    digit, letter = plain_glyphs.tasks
    overflow = ForcedOverflow(at={"famo": 2, "fmtl": 3, "samo": 7}.get(method, number))  # in the second step
    overflowing = Task("letter", overflow, letter.metrics, letter.outputs, letter.estimate)
    module = MultiTaskModule(
        LeNet(),
        [digit, overflowing],
        method=method,
        method_options=options,
        scheduler=lambda optimizer: torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5),
        scheduler_interval="step",
    )
    seen, precision = States(), half()
    fit = trainer(
        accumulate_grad_batches=number, plugins=[precision], callbacks=[ConflictCallback(), seen], limit_val_batches=0
    )
    fit.fit(module, datamodule=plain_glyphs)
    second = 2 * number - 1
    assert equal(seen.after[second], seen.after[number - 1])
    assert seen.after[second]["rate"] == 0.05
    assert precision.scaler is not None
    assert precision.scaler.get_scale() == 2.0**9
    if number == 1:
        assert not equal(seen.after[2], seen.after[1])
    assert fit.global_step == 4 / number


@pytest.mark.parametrize("call", [4, 5], ids=["unused", "used"])
def test_an_overflow_at_perturbed_parameters_skips_the_step_too(
    call: int, plain_glyphs: Glyphs, trainer: TrainerFactory
) -> None:
    """Calls 3, 4 and 5 are of the second step; of those at perturbed parameters, each task has one."""
    torch.manual_seed(0)
    digit, letter = plain_glyphs.tasks
    overflowing = Task("letter", ForcedOverflow(call), letter.metrics, letter.outputs)
    module = MultiTaskModule(
        LeNet(), [digit, overflowing], method="fmtl", method_options={"method": "moco"}, optimizer=plain_sgd
    )
    states: list[dict[str, Any]] = []

    class Kept(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *args: Any) -> None:
            states.append(copy.deepcopy(pl_module.state_dict()))

    fit = trainer(max_steps=2, plugins=[half()], callbacks=[Kept()], limit_val_batches=0)
    fit.fit(module, datamodule=plain_glyphs)
    assert equal(states[0], states[1]) == (call == 5)


@pytest.mark.parametrize("number", [1, 2])
def test_a_resumed_run_goes_on_with_the_scale(
    number: int, plain_glyphs: Glyphs, trainer: TrainerFactory, tmp_path: Path
) -> None:
    def fit(folder: Path, epochs: int) -> tuple[Tensor, Any]:
        pl.seed_everything(2, verbose=False)
        precision = MixedPrecision(
            "16-mixed", "cpu", scaler=torch.amp.GradScaler("cpu", init_scale=2.0**30, growth_interval=3)
        )
        module = MultiTaskModule(LeNet(), plain_glyphs.tasks, method="pcgrad", optimizer=plain_sgd)
        last = folder / "last.ckpt"
        trainer(
            max_epochs=epochs,
            accumulate_grad_batches=number,
            plugins=[precision],
            limit_val_batches=0,
            enable_checkpointing=True,
            callbacks=[LastEpochCheckpoint(str(folder))],
        ).fit(module, datamodule=plain_glyphs, ckpt_path=str(last) if last.exists() else None)
        assert precision.scaler is not None
        return weights(module), precision.scaler.state_dict()

    expected, scaler = fit(tmp_path / "whole", 6)
    assert scaler["scale"] < 2.0**30
    fit(tmp_path / "parts", 3)
    resumed, after = fit(tmp_path / "parts", 6)
    assert after == scaler
    assert torch.equal(resumed, expected)


@pytest.mark.filterwarnings("ignore:.*AMP with fp16 is not supported on CPU")
def test_lightning_makes_it_bfloat16_on_the_cpu(plain_glyphs: Glyphs, trainer: TrainerFactory) -> None:
    fit = trainer(precision="16-mixed")
    assert fit.precision == "bf16-mixed"
    fit.fit(MultiTaskModule(LeNet(), plain_glyphs.tasks, method="mgda"), datamodule=plain_glyphs)
    assert fit.global_step == 4
