from collections.abc import Callable
from pathlib import Path

import pytest
import pytorch_lightning as pl
from pytorch_lightning.demos.boring_classes import BoringModel
from torch import Tensor

from recon.conflict import ConflictMap, MeasuredMap
from recon.data import Glyphs
from recon.models import LeNet
from recon.training import Branching, ConflictCallback, MultiTaskModule

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
    module = MultiTaskModule(LeNet(), glyphs.tasks, branch=Branching(layers=["conv2"]))
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


def test_only_a_multi_task_module_of_several_tasks_can_be_observed(glyphs: Glyphs, trainer: TrainerFactory) -> None:
    with pytest.raises(TypeError, match="observes a MultiTaskModule, got BoringModel"):
        trainer(callbacks=[ConflictCallback()]).fit(BoringModel())
    single = MultiTaskModule(LeNet(), glyphs.tasks, only=["digit"])
    with pytest.raises(ValueError, match="a conflict takes two or more tasks"):
        trainer(callbacks=[ConflictCallback()]).fit(single, datamodule=glyphs)
