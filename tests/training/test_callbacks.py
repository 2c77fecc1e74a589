from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import BackboneFinetuning
from pytorch_lightning.demos.boring_classes import BoringModel
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import recon
from recon.conflict import ConflictMap, MeasuredMap
from recon.data import Glyphs
from recon.models import LeNet
from recon.training import BranchOptions, ConflictCallback, MultiTaskModule

TrainerFactory = Callable[..., pl.Trainer]


def measured(path: Path) -> MeasuredMap:
    conflict_map = ConflictMap.load(path)
    assert isinstance(conflict_map, MeasuredMap)
    return conflict_map


def test_a_search_observes_each_nth_step_and_says_where_the_map_came_from(
    glyphs: Glyphs, trainer: TrainerFactory, tmp_path: Path
) -> None:
    pl.seed_everything(4, verbose=False)
    path = tmp_path / "map.json"
    fit = trainer(max_epochs=3, callbacks=[ConflictCallback(every=2, path=str(path))])
    fit.fit(MultiTaskModule(LeNet(), glyphs.tasks), datamodule=glyphs)
    found = measured(path)
    assert found.layers == ("conv1", "conv2", "fc")
    assert found.tasks == ("digit", "letter")
    assert set(found.observations.values()) == {5}  # 3 epochs of 3 steps
    provenance = found.provenance
    assert (provenance["steps"], provenance["observed_steps"], provenance["every"]) == (9, 5, 2)
    assert (provenance["network"], provenance["seed"]) == ("LeNet", 4)
    assert provenance["dataset"] == "Glyphs(train_size=40, test_size=27, seed=0)"


def test_the_map_is_written_after_each_epoch(glyphs: Glyphs, trainer: TrainerFactory, tmp_path: Path) -> None:
    steps = []

    class Reader(pl.Callback):
        def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            steps.append(measured(tmp_path / "conflict_map.json").provenance["steps"])

    fit = trainer(max_epochs=2, callbacks=[ConflictCallback(), Reader()])
    fit.fit(MultiTaskModule(LeNet(), glyphs.tasks), datamodule=glyphs)
    assert steps == [3, 6]


def test_a_branched_network_is_observed_where_it_is_still_shared(
    glyphs: Glyphs, trainer: TrainerFactory, tmp_path: Path
) -> None:
    module = MultiTaskModule(LeNet(), glyphs.tasks, branch=BranchOptions(layers=["conv2"]))
    trainer(callbacks=[ConflictCallback()]).fit(module, datamodule=glyphs)
    found = measured(tmp_path / "conflict_map.json")
    assert found.layers == ("conv1", "fc")
    assert found.provenance["network"] == "LeNet"


def test_observing_does_not_change_training(glyphs: Glyphs, trainer: TrainerFactory) -> None:
    weights: list[Tensor] = []
    for callbacks in ([], [ConflictCallback()]):
        pl.seed_everything(0, verbose=False)
        module = MultiTaskModule(LeNet(), glyphs.tasks, method="pcgrad")
        trainer(callbacks=callbacks).fit(module, datamodule=glyphs)
        weights.append(module.backbone.get_parameter("conv1.weight"))
    assert weights[0].equal(weights[1])


def test_only_a_module_with_an_engine_for_several_tasks_can_be_observed(
    glyphs: Glyphs, trainer: TrainerFactory
) -> None:
    with pytest.raises(TypeError, match=r"no recon\.Engine among the attributes of BoringModel"):
        trainer(callbacks=[ConflictCallback()]).fit(BoringModel())
    single = MultiTaskModule(LeNet(), glyphs.tasks, only=["digit"])
    with pytest.raises(ValueError, match="a conflict takes two or more tasks"):
        trainer(callbacks=[ConflictCallback()]).fit(single, datamodule=glyphs)


class Own(pl.LightningModule):
    """A module of a user's own, which calls an engine."""

    def __init__(self, place: str = "attribute", late: bool = False) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.place, self.late = place, late
        self.backbone = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4))
        self.heads = nn.ModuleDict({"a": nn.Linear(4, 1), "b": nn.Linear(4, 1)})
        self.seen: list[Tensor] = []
        if not late:
            self.keep(self.make())

    def make(self) -> recon.Engine:
        return recon.Engine(self.backbone, ["a", "b"], recon.create_method("joint"))

    def keep(self, engine: recon.Engine) -> None:
        if self.place == "list":
            self.engines = [engine]
        elif self.place == "part":
            self.backbone.engine = engine  # type: ignore[assignment]
        else:
            self.engine = engine

    def on_train_start(self) -> None:
        if self.late:
            self.keep(self.make())

    def the_engine(self) -> recon.Engine:
        return {"list": lambda: self.engines[0], "part": lambda: self.backbone.engine}.get(
            self.place, lambda: self.engine
        )()  # type: ignore[no-any-return]

    def training_step(self, batch: list[Tensor], batch_idx: int) -> None:
        optimizer = self.optimizers()
        assert not isinstance(optimizer, list)
        optimizer.zero_grad()
        features = self.backbone(batch[0])
        losses = {task: (head(features) - target).square().mean() for task, head, target in self.parts()}
        info = self.the_engine().backward(losses)
        if info.layer_cosines is not None:
            self.seen.append(info.layer_cosines[:, 0, 1])
        optimizer.step()

    def parts(self) -> list[tuple[str, nn.Module, float]]:
        return [("a", self.heads["a"], 1.0), ("b", self.heads["b"], -1.0)]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


def points() -> DataLoader[Any]:
    return DataLoader(TensorDataset(torch.randn(32, 6, generator=torch.Generator().manual_seed(1))), 8)


@pytest.mark.parametrize("late", [False, True], ids=["in init", "on train start"])
@pytest.mark.parametrize("place", ["attribute", "list", "part"])
def test_a_module_of_ones_own_that_calls_an_engine_is_observed(
    place: str, late: bool, trainer: TrainerFactory, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    module = Own(place, late)
    for epochs in (2, 1):  # a second fit with a callback of its own
        module.seen.clear()
        fit = trainer(max_epochs=epochs, callbacks=[ConflictCallback(every=2)])
        fit.fit(module, points())
        found = measured(tmp_path / "conflict_map.json")
        assert found.layers == ("0", "2")
        assert (found.provenance["steps"], found.provenance["observed_steps"]) == (4 * epochs, 2 * epochs)
        conflicts = (torch.stack(module.seen) < 0).sum(0).tolist()
        assert list(found.scores(0.0).values()) == conflicts
        assert module.the_engine().analyzer is None


def test_a_resumed_module_of_ones_own_loses_and_repeats_no_observation(trainer: TrainerFactory, tmp_path: Path) -> None:
    def fit(epochs: int, checkpoint: Path | None = None) -> dict[str, int]:
        torch.manual_seed(0)
        run = trainer(max_epochs=epochs, callbacks=[ConflictCallback()])
        run.fit(Own(late=True), points(), ckpt_path=checkpoint)
        run.save_checkpoint(tmp_path / f"{epochs}.ckpt")
        return measured(tmp_path / "conflict_map.json").scores(0.0)

    whole = fit(3)
    fit(1)
    assert fit(3, tmp_path / "1.ckpt") == whole
    assert measured(tmp_path / "conflict_map.json").provenance["steps"] == 12


def test_several_engines_or_one_with_an_analyzer_are_refused_with_the_cure(trainer: TrainerFactory) -> None:
    module = Own()
    module.other = module.make()  # type: ignore[assignment]
    with pytest.raises(ValueError, match=r"found 2 engines among the attributes of Own.*give each an analyzer"):
        trainer(callbacks=[ConflictCallback()]).fit(module, points())
    module = Own()
    module.engine.analyzer = recon.ConflictAnalyzer(module.backbone, ["a", "b"])
    with pytest.raises(ValueError, match="the engine of Own has an analyzer already"):
        trainer(callbacks=[ConflictCallback()]).fit(module, points())


def test_a_backbone_that_thaws_is_observed_from_then_on(
    glyphs: Glyphs, trainer: TrainerFactory, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    module = MultiTaskModule(LeNet(), glyphs.tasks)
    frozen = module.backbone.get_parameter("conv1.weight").detach().clone()
    thaw = BackboneFinetuning(unfreeze_backbone_at_epoch=1, verbose=False, backbone_initial_lr=0.01)
    after: list[Tensor] = []

    class Weights(pl.Callback):
        def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
            after.append(pl_module.backbone.conv1.weight.detach().clone())

    fit = trainer(max_epochs=2, callbacks=[thaw, ConflictCallback(), Weights()])
    fit.fit(module, datamodule=glyphs)
    assert after[0].equal(frozen)
    assert not after[1].equal(frozen)
    assert [group["lr"] for group in fit.optimizers[0].param_groups] == [0.1, 0.01]
    assert set(measured(tmp_path / "conflict_map.json").observations.values()) == {3}


def test_a_backbone_that_stays_frozen_leaves_no_map_and_says_so(
    glyphs: Glyphs, trainer: TrainerFactory, tmp_path: Path
) -> None:
    module = MultiTaskModule(LeNet().requires_grad_(False), glyphs.tasks)
    with pytest.warns(UserWarning, match="no step was observed, and .*conflict_map.json is not written"):
        trainer(callbacks=[ConflictCallback()]).fit(module, datamodule=glyphs)
    assert not (tmp_path / "conflict_map.json").exists()


class WithMethod(Own):
    """The same with a method that learns, held by the engine alone or by the module too."""

    def __init__(self, registered: bool) -> None:
        super().__init__(late=True)
        method = recon.create_method("uw")
        self.keep(recon.Engine(self.backbone, ["a", "b"], method))
        self.late = False
        if registered:
            self.method = method


@pytest.mark.parametrize("registered", [False, True])
def test_state_of_a_method_that_checkpoints_lack_is_told(
    registered: bool, trainer: TrainerFactory, recwarn: pytest.WarningsRecorder
) -> None:
    module = WithMethod(registered)
    trainer(max_epochs=1, callbacks=[ConflictCallback()]).fit(module, points())
    told = [str(warning.message) for warning in recwarn if "self.method = recon.create_method" in str(warning.message)]
    assert len(told) == (0 if registered else 1)
    assert any(name.startswith("method.") for name in module.state_dict()) is registered
