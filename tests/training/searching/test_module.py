"""The search of BMTAS: what it finds, that it goes on after an interruption, and what it refuses."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins import MixedPrecision
from torch import nn
from two_needs import TwoNeeds, module

import recon
from recon.models import LTB, LeNet
from recon.tasks import classification
from recon.training import MultiTaskModule
from recon.training.run_folder import LastEpochCheckpoint
from recon.training.searching.module import BranchSearch
from recon.training.searching.options import BMTASOptions
from recon.training.trainer import Trainer

STAGES = ["first", "second"]
QUICK: dict[str, Any] = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False}
QUICK |= {"enable_model_summary": False, "num_sanity_val_steps": 0, "limit_val_batches": 1}


def search(folder: Path, options: dict[str, Any], epochs: int = 16, **more: Any) -> recon.TaskTree:
    pl.seed_everything(3)
    trainer = Trainer(default_root_dir=str(folder), max_epochs=epochs, **QUICK, **{"callbacks": [], **more})
    settings = BMTASOptions(STAGES, **{"lr": 0.1, "warm_up": 0.25, **options})
    path = str(folder / "tree.json")
    trainer.search(module(), TwoNeeds(), by="bmtas", bmtas=settings, tree_path=path)
    return recon.TaskTree.load(path)


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("ERROR", logger="pytorch_lightning")


def test_for_free_it_branches_where_tasks_need_different_features(tmp_path: Path) -> None:
    tree = search(tmp_path, {"resource_weight": 0})
    assert tree.stages[0].groups == (("a",), ("b",))
    assert max(tree.stages[0].probabilities[0]) > 0.9
    assert tree.groups == {"first": (("a",), ("b",)), "second.1": (("a",), ("b",))}


def test_at_a_huge_price_it_does_not_branch(tmp_path: Path) -> None:
    tree = search(tmp_path, {"resource_weight": 1e12})
    assert [stage.groups for stage in tree.stages] == [(("a", "b"),)] * 2
    assert tree.groups == {}


def test_the_file_says_where_the_tree_comes_from(tmp_path: Path) -> None:
    tree = search(tmp_path, {}, epochs=2)
    assert tree.settings["stages"] == STAGES and tree.settings["resource_weight"] == 0.05
    known = {"network": "Narrow", "dataset": "TwoNeeds", "epochs": 2, "seed": 3, "recon": recon.__version__}
    assert tree.provenance.items() >= known.items()


class _Stop(pl.Callback):
    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch == 2:
            raise RuntimeError("killed")


def test_an_interrupted_search_resumes_as_if_it_had_not_been(tmp_path: Path) -> None:
    whole = search(tmp_path / "whole", {}, epochs=4)
    kept = LastEpochCheckpoint(str(tmp_path / "run"))
    with pytest.raises(RuntimeError, match="killed"):
        search(tmp_path, {}, epochs=4, callbacks=[kept, _Stop()])
    assert recon.TaskTree.load(tmp_path / "tree.json").provenance["epochs"] == 2
    pl.seed_everything(8)  # the seed is the run's
    trainer = Trainer(default_root_dir=str(tmp_path), max_epochs=4, **QUICK)
    checkpoint = str(tmp_path / "run" / "last.ckpt")
    path = str(tmp_path / "tree.json")
    options = BMTASOptions(STAGES, lr=0.1, warm_up=0.25)
    trainer.search(module(), TwoNeeds(), by="bmtas", bmtas=options, tree_path=path, ckpt_path=checkpoint)
    resumed = recon.TaskTree.load(path)
    assert resumed.stages == whole.stages and resumed.provenance["seed"] == 3
    other = BMTASOptions(STAGES, lr=0.2, warm_up=0.25)
    again = Trainer(default_root_dir=str(tmp_path), max_epochs=4, **QUICK)
    with pytest.raises(ValueError, match="the checkpoint is of another run: its method is BMTASOptions"):
        again.search(module(), TwoNeeds(), by="bmtas", bmtas=other, tree_path=path, ckpt_path=checkpoint)
    with pytest.raises(ValueError, match="the checkpoint is of another run"):
        Trainer(default_root_dir=str(tmp_path), max_epochs=4, **QUICK).fit(module(), TwoNeeds(), checkpoint)


def test_phases_move_their_own_parameters_and_the_split_holds_samples_out(tmp_path: Path) -> None:
    seen: dict[str, list[Any]] = {"architecture": [], "weights": []}
    moved: dict[str, set[str]] = {"architecture": set(), "weights": set()}

    class Watch(pl.Callback):
        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
            self.before = {name: each.clone() for name, each in pl_module.state_dict().items()}

        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            [(phase, (x, _))] = batch.items()
            seen[phase] += x[:, 0].tolist()
            if not pl_module.network.warming_up:
                after = pl_module.state_dict()
                moved[phase] |= {name for name, each in self.before.items() if not torch.equal(each, after[name])}

    search(tmp_path, {}, epochs=3, callbacks=[Watch()])
    assert len(set(seen["architecture"])) == 64 and len(set(seen["weights"])) == 256
    assert not set(seen["architecture"]) & set(seen["weights"])
    assert moved["architecture"] == {"backbone.choices.0.logits", "backbone.choices.1.logits"}
    assert not moved["architecture"] & moved["weights"] and any(name.startswith("heads") for name in moved["weights"])


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: module(only=["a"]), "a task tree needs two tasks or more, and there is a"),
        (lambda: module(method="cagrad"), "the method is CAGrad; give method joint"),
        (
            lambda: module(branch=recon.training.BranchOptions(layers=["first"])),
            "has parts of each task's own already; leave out branch",
        ),
        (
            lambda: MultiTaskModule(LTB(LeNet, ["conv1"]), [classification("a", 2), classification("b", 2)]),
            "LTBNetwork has parts of each task's own already",
        ),
    ],
)
def test_modules_that_train_otherwise_are_refused(make: Callable[[], MultiTaskModule], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        BranchSearch(make(), BMTASOptions(STAGES), "tree.json")


def test_searches_that_cannot_begin_are_refused(tmp_path: Path) -> None:
    trainer = Trainer(default_root_dir=str(tmp_path), max_epochs=2, **QUICK)
    with pytest.raises(ValueError, match=r"needs the stages of the backbone; give --bmtas.stages"):
        trainer.search(module(), TwoNeeds(), by="bmtas")
    with pytest.raises(ValueError, match="give --by bmtas too"):
        trainer.search(module(), TwoNeeds(), bmtas=BMTASOptions(STAGES))
    with pytest.raises(ValueError, match="unknown stage 'frist' in Narrow; nearest: 'first'"):
        trainer.search(module(), TwoNeeds(), by="bmtas", bmtas=BMTASOptions(["frist"]), tree_path=str(tmp_path / "t"))
    with pytest.raises(ValueError, match="is no file; give one to write the task tree to"):
        trainer.search(module(), TwoNeeds(), by="bmtas", bmtas=BMTASOptions(STAGES), tree_path=str(tmp_path))


def test_parts_are_limited_in_every_epoch_when_loaders_are_made_again(tmp_path: Path) -> None:
    steps: list[int] = []

    class Watch(pl.Callback):
        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            steps.append(trainer.global_step)

    more = {"limit_train_batches": 2, "reload_dataloaders_every_n_epochs": 1, "callbacks": [Watch()]}
    search(tmp_path, {}, epochs=3, **more)
    # Two batches of two tasks, and after the epoch of warm-up two of the choices.
    assert steps == [4, 10, 16]


def test_weights_of_joint_and_a_schedule_are_those_of_the_module(tmp_path: Path) -> None:
    def halved(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
        return torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)

    made = module(method="joint", method_options={"weights": [1.0, 0.0]}, scheduler=halved, gradient_clip_val=1.0)
    trainer = Trainer(default_root_dir=str(tmp_path), max_epochs=2, limit_train_batches=2, **QUICK)
    before = made.heads["b"].weight.clone()
    trainer.search(made, TwoNeeds(), by="bmtas", bmtas=BMTASOptions(STAGES), tree_path=str(tmp_path / "tree.json"))
    assert trainer.optimizers[0].param_groups[0]["lr"] == 0.05 / 4
    assert trainer.optimizers[1].param_groups[0]["lr"] == 0.01
    torch.testing.assert_close(made.heads["b"].weight, before)
    assert isinstance(made.backbone, nn.Module) and trainer.limit_train_batches == 1.0


def test_gradients_of_weights_are_clipped_after_unscaling_in_float16(tmp_path: Path) -> None:
    def descent(parameters: Any) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, lr=1.0)

    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12)
    half = MixedPrecision("16-mixed", "cpu", scaler)
    made = module(optimizer=descent, gradient_clip_val=1e-2)
    before = made.heads["b"].weight.clone()
    trainer = Trainer(default_root_dir=str(tmp_path), max_epochs=1, limit_train_batches=1, plugins=[half], **QUICK)
    trainer.search(made, TwoNeeds(), by="bmtas", bmtas=BMTASOptions(STAGES), tree_path=str(tmp_path / "tree.json"))
    assert scaler.get_scale() == 2.0**12
    assert 1e-3 < float((made.heads["b"].weight - before).detach().norm()) <= 1e-2
