"""The callback in a LightningModule of somebody else's, without an engine."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import recon
from recon.conflict import ConflictMap, MeasuredMap
from recon.training import ConflictCallback
from recon.training.own_losses import check_can_be_watched

TrainerFactory = Callable[..., pl.Trainer]
Losses = dict[str, Tensor]


def points(size: int = 30) -> DataLoader[Any]:
    return DataLoader(TensorDataset(torch.randn(size, 6, generator=torch.Generator().manual_seed(1))), 8)


class Theirs(pl.LightningModule):
    """Batch norm, dropout and automatic optimisation."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(
            nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 4), nn.Linear(4, 4)
        )
        self.heads = nn.ModuleDict({"a": nn.Linear(4, 1), "b": nn.Linear(4, 1)})
        self.calls = 0

    def losses(self, batch: list[Tensor]) -> Losses:
        self.calls += 1
        features = self.net(batch[0])
        self.log("level", features.mean())
        return {task: (head(features) - i).square().mean() for i, (task, head) in enumerate(self.heads.items())}

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return torch.stack([*self.losses(batch).values()]).sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)


class Inline(Theirs):
    """Its training step computes the losses by itself."""

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        features = self.net(batch[0])
        return torch.stack([(head(features) - i).square().mean() for i, head in enumerate(self.heads.values())]).sum()


class Manual(Theirs):
    """Its training step makes the steps."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: list[Tensor], batch_idx: int) -> None:  # type: ignore[override]
        optimizer = self.optimizers()
        assert not isinstance(optimizer, list)
        optimizer.zero_grad()
        self.manual_backward(torch.stack([*self.losses(batch).values()]).sum())
        optimizer.step()


class ByEngine(Theirs):
    """The same training by an engine, for the map that is expected."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.engine = recon.Engine(self.net, ["a", "b"], "joint")

    def training_step(self, batch: list[Tensor], batch_idx: int) -> None:  # type: ignore[override]
        optimizer = self.optimizers()
        assert not isinstance(optimizer, list)
        optimizer.zero_grad()
        torch.stack([*self.losses(batch).values()]).sum().backward(retain_graph=True)
        gradients = [parameter.grad for parameter in self.parameters()]
        optimizer.zero_grad()
        torch.manual_seed(batch_idx)
        self.engine.backward(self.losses(batch))
        for parameter, gradient in zip(self.parameters(), gradients, strict=True):
            parameter.grad = gradient
        optimizer.step()


class Gradients(pl.Callback):
    """Keeps the gradients of each step."""

    def __init__(self) -> None:
        self.seen: list[Tensor] = []

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Any) -> None:
        self.seen += [p.grad.clone() for p in pl_module.parameters() if p.grad is not None]


def trained(trainer: TrainerFactory, module: pl.LightningModule, *callbacks: pl.Callback, **options: Any) -> Any:
    """All that a training leaves: parameters, statistics, gradients, and the next random numbers."""
    gradients = Gradients()
    torch.manual_seed(2)
    trainer(max_epochs=2, callbacks=[*callbacks, gradients], **options).fit(module, points())
    return [*module.state_dict().values(), *gradients.seen, torch.rand(3)]


@pytest.mark.parametrize(("kind", "micro_batches"), [(Theirs, 1), (Inline, 3), (Manual, 1)])
def test_training_is_the_same_bit_for_bit(
    trainer: TrainerFactory, kind: type[Theirs], micro_batches: int, tmp_path: Path
) -> None:
    options = {} if kind is Manual else {"accumulate_grad_batches": micro_batches}
    expected = trained(trainer, kind(), **options)
    module, callback = kind(), ConflictCallback(every=2, shared="net")
    found = trained(trainer, module, callback, **options)
    assert len(found) == len(expected)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    steps = 2 * -(-4 // options.get("accumulate_grad_batches", 1))
    cmap = ConflictMap.load(tmp_path / "conflict_map.json")
    assert (cmap.provenance["steps"], cmap.provenance["observed_steps"]) == (steps, -(-steps // 2))
    assert cmap.provenance["network"] == "Sequential"
    # Losses that the training step computes are not computed again.
    assert module.calls == {Theirs: 8, Manual: 8, Inline: steps // 2 * options.get("accumulate_grad_batches", 1)}[kind]
    assert "losses" not in vars(module) and "log" not in vars(module)


@pytest.mark.parametrize("kind", [Theirs, Inline])
def test_the_step_logs_what_it_always_did(trainer: TrainerFactory, kind: type[Theirs]) -> None:
    logged = []
    for callbacks in ([], [ConflictCallback(shared="net")]):
        torch.manual_seed(2)
        fit = trainer(callbacks=callbacks)
        fit.fit(kind(), points())
        logged.append(fit.callback_metrics)
    assert logged[0] == logged[1]
    assert ("level" in logged[1]) is (kind is Theirs)


def test_heads_in_the_shared_part_are_warned_of(trainer: TrainerFactory) -> None:
    with pytest.warns(UserWarning, match=r"one task alone in all observed steps: heads\.a, heads\.b; they have"):
        trainer(callbacks=[ConflictCallback(shared=["net", "heads"])]).fit(Theirs(), points())


def maps(trainer: TrainerFactory, folder: Path, module: pl.LightningModule, callback: ConflictCallback) -> MeasuredMap:
    torch.manual_seed(2)
    trainer(max_epochs=2, callbacks=[callback]).fit(module, points())
    cmap = ConflictMap.load(folder / "conflict_map.json")
    assert isinstance(cmap, MeasuredMap)
    return cmap


def test_the_map_is_that_of_an_engine(trainer: TrainerFactory, tmp_path: Path) -> None:
    def plain(kind: type[Theirs]) -> Theirs:
        module = kind()
        module.net[3] = nn.Identity()  # the engine's second forward pass would draw another dropout
        return module

    found = maps(trainer, tmp_path, plain(Theirs), ConflictCallback(shared="net"))
    expected = maps(trainer, tmp_path, plain(ByEngine), ConflictCallback())
    assert torch.equal(found.histogram, expected.histogram)
    assert torch.equal(found.mean_cosine, expected.mean_cosine)
    assert torch.equal(found.gradient_norms, expected.gradient_norms)


def test_a_function_serves_a_module_that_nobody_can_edit(trainer: TrainerFactory, tmp_path: Path) -> None:
    def task_losses(module: Any, batch: list[Tensor]) -> Losses:
        return {task: head(module.net(batch[0])).square().mean() for task, head in module.heads.items()}

    callback = ConflictCallback(shared=["net.0", "net.4"], losses=task_losses)
    assert maps(trainer, tmp_path, Inline(), callback).layers == ("net_0", "net_4")


def test_a_resumed_run_goes_on(trainer: TrainerFactory, tmp_path: Path) -> None:
    whole = maps(trainer, tmp_path, Theirs(), ConflictCallback(every=3, shared="net"))
    torch.manual_seed(2)
    first = trainer(max_epochs=1, callbacks=[ConflictCallback(every=3, shared="net")])
    first.fit(Theirs(), points())
    first.save_checkpoint(tmp_path / "first.ckpt")
    state = torch.get_rng_state()
    second = trainer(max_epochs=2, callbacks=[ConflictCallback(every=3, shared="net")])
    module = Theirs()
    torch.set_rng_state(state)
    second.fit(module, points(), ckpt_path=tmp_path / "first.ckpt", weights_only=True)
    resumed = ConflictMap.load(tmp_path / "conflict_map.json")
    assert isinstance(resumed, MeasuredMap)
    assert resumed.provenance["observed_steps"] == whole.provenance["observed_steps"] == 3


Hook = Callable[[Any, Any], Mapping[str, Tensor]]


@pytest.mark.parametrize(
    ("losses", "text"),
    [
        (lambda module, batch: None, r"<lambda> returned NoneType, and no losses; let it return \{task: scalar loss\}"),
        (lambda module, batch: {}, "returned no losses; let it return"),
        (lambda module, batch: module.net(batch[0]).sum(), "returned Tensor, and no losses; let it return"),
        ("task_losses", r"Theirs has no method 'task_losses'; write task_losses\(self, batch\) that returns \{task:"),
    ],
)
def test_a_hook_without_losses_is_refused_in_one_line(trainer: TrainerFactory, losses: Any, text: str) -> None:
    module = Theirs()
    with pytest.raises(TypeError, match=text) as error:
        trainer(callbacks=[ConflictCallback(shared="net", losses=losses)]).fit(module, points())
    assert "\n" not in str(error.value)
    assert "losses" not in vars(module) and "log" not in vars(module)


def test_what_cannot_be_watched_is_refused(trainer: TrainerFactory) -> None:
    with pytest.raises(ValueError, match=re.escape("unknown module 'nett' in Theirs; nearest: 'net'")):
        trainer(callbacks=[ConflictCallback(shared="nett")]).fit(Theirs(), points())
    alone = ConflictCallback(shared="net", losses=lambda module, batch: {"a": module.net(batch[0]).sum()})
    with pytest.raises(ValueError, match="a conflict takes two or more tasks"):
        trainer(callbacks=[alone]).fit(Theirs(), points())


@pytest.mark.parametrize("package", ["pytorch_lightning", "lightning.pytorch"])
def test_strategies_of_both_packages_of_lightning_are_told_apart_by_name(package: str) -> None:
    def trainer_with(*names: str) -> Any:
        kinds: list[type] = [object]
        for name in names:
            kinds.append(type(name, (kinds[-1],), {"__module__": f"{package}.strategies"}))
        return SimpleNamespace(strategy=kinds[-1]())

    check_can_be_watched(trainer_with("Strategy", "SingleDeviceStrategy"))
    check_can_be_watched(trainer_with("Strategy", "DDPStrategy", "Subclass"))
    for names in (("Strategy", "FSDPStrategy"), ("Strategy", "DDPStrategy", "DeepSpeedStrategy")):
        with pytest.raises(ValueError, match=f"{names[-1]}: ConflictCallback needs whole layers"):
            check_can_be_watched(trainer_with(*names))


def test_losses_without_a_backward_by_lightning_are_told_of(trainer: TrainerFactory) -> None:
    class Own(Manual):
        def training_step(self, batch: list[Tensor], batch_idx: int) -> None:  # type: ignore[override]
            torch.stack([*self.losses(batch).values()]).sum().backward()

    with pytest.warns(UserWarning, match="no step was observed, .* had no backward by Lightning"):
        trainer(callbacks=[ConflictCallback(shared="net")]).fit(Own(), points())
