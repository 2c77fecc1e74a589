"""A run that is interrupted and resumed is, bit for bit, the run that was not."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from recon.data import Glyphs
from recon.training import ConflictCallback, MultiTaskModule
from recon.training.branch_options import BranchOptions
from recon.training.run_folder import LastEpochCheckpoint

TrainerFactory = Callable[..., pl.Trainer]


class Network(nn.Module):
    """Has what makes resuming hard: dropout, and running statistics."""

    num_features = 12

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 9, stride=4)
        self.norm = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.3)
        self.fc = nn.Linear(4 * 7 * 7, self.num_features)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.drop(self.norm(self.conv(x)).relu().flatten(1)))


class Interrupted(Exception):
    pass


class Interruption(pl.Callback):
    """Ends the run in the middle of its third epoch."""

    def on_train_batch_start(self, trainer: pl.Trainer, *args: Any) -> None:
        if trainer.current_epoch == 2 and args[-1] == 1:
            raise Interrupted


class Run:
    """A run in a folder of its own."""

    def __init__(self, folder: Path, trainer: TrainerFactory, seed: int, **options: Any) -> None:
        pl.seed_everything(seed, verbose=False)
        self.folder = folder
        self.trainer = trainer
        self.data = Glyphs(train_size=60, test_size=30, batch_size=16, eval_batch_size=16, shuffle_seed=3)
        self.module = MultiTaskModule(Network(), self.data.tasks, scheduler=halve_each_epoch, **options)
        self.metrics: Any = None

    def fit(self, *callbacks: pl.Callback, every: int) -> None:
        checkpoint = self.folder / "last.ckpt"
        conflict = ConflictCallback(every, str(self.folder / "map.json"))
        trainer = self.trainer(
            max_epochs=4,
            enable_checkpointing=True,
            callbacks=[conflict, *callbacks, LastEpochCheckpoint(str(self.folder))],
        )
        trainer.fit(self.module, datamodule=self.data, ckpt_path=str(checkpoint) if checkpoint.exists() else None)
        self.metrics = trainer.test(self.module, datamodule=self.data, verbose=False)

    @property
    def conflict_map(self) -> dict[str, Any]:
        content = json.loads((self.folder / "map.json").read_text())
        del content["provenance"]["created"], content["checksum"]  # which is of the time too
        return content


def halve_each_epoch(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
    return torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)


@pytest.mark.parametrize(
    ("options", "every"),
    [
        ({"method": "joint"}, 3),
        ({"method": "pcgrad"}, 1),
        ({"method": "graddrop"}, 2),
        ({"method": "cagrad", "branch": BranchOptions(layers=["norm"])}, 1),
        ({"method": "gradvac", "granularity": "layer"}, 2),
        ({"method": "rotograd", "at": "representation"}, 2),
    ],
    ids=["joint", "pcgrad", "graddrop", "cagrad-branched", "gradvac-by-layer", "rotograd"],
)
def test_a_resumed_run_equals_an_uninterrupted_one(
    options: Any, every: int, trainer: TrainerFactory, tmp_path: Path
) -> None:
    whole = Run(tmp_path / "whole", trainer, seed=5, **options)
    whole.fit(every=every)
    folder = tmp_path / "parts"
    with pytest.raises(Interrupted):
        Run(folder, trainer, seed=5, **options).fit(Interruption(), every=every)
    # Another seed: the weights, dropout and the method's randomness all have to come from the
    # checkpoint.
    resumed = Run(folder, trainer, seed=6, **options)
    resumed.fit(every=every)

    expected, state = whole.module.state_dict(), resumed.module.state_dict()
    assert state.keys() == expected.keys()
    assert [name for name in expected if not torch.equal(state[name], expected[name])] == []
    assert resumed.conflict_map == whole.conflict_map
    assert resumed.metrics == whole.metrics


def test_a_finished_run_is_not_trained_further_when_resumed(trainer: TrainerFactory, tmp_path: Path) -> None:
    first = Run(tmp_path, trainer, seed=0)
    first.fit(every=1)
    again = Run(tmp_path, trainer, seed=1)
    again.fit(every=1)
    assert again.metrics == first.metrics
    assert again.conflict_map == first.conflict_map


def test_runs_of_different_seeds_differ_in_the_methods_randomness(trainer: TrainerFactory, tmp_path: Path) -> None:
    states = []
    for seed in (0, 1):
        run = Run(tmp_path / str(seed), trainer, seed=seed, method="pcgrad")
        run.fit(every=1)
        states.append(run.module.method.state_dict()["_extra_state"])
    assert not torch.equal(*states)


def test_dropout_differs_from_epoch_to_epoch(trainer: TrainerFactory, tmp_path: Path) -> None:
    run = Run(tmp_path, trainer, seed=0)
    drop = run.module.backbone.get_submodule("drop")
    drop.register_forward_pre_hook(lambda module, inputs: (torch.ones_like(inputs[0]),))
    masks: list[Tensor] = []
    drop.register_forward_hook(lambda module, inputs, output: masks.append(output) if module.training else None)
    run.fit(every=1)
    first, second, third, fourth = masks[::4]  # of the first batch of each epoch
    assert not torch.equal(first, second)
    assert not torch.equal(second, third)
    assert not torch.equal(third, fourth)


def test_the_default_checkpoint_of_lightning_resumes_exactly_too(trainer: TrainerFactory, tmp_path: Path) -> None:
    """Lightning saves it after the epoch, when the learning rate has been stepped."""

    def fit(epochs: int, checkpoint: str | None = None) -> tuple[pl.Trainer, dict[str, Tensor]]:
        pl.seed_everything(0, verbose=False)
        data = Glyphs(train_size=60, test_size=30, batch_size=16)
        module = MultiTaskModule(Network(), data.tasks, scheduler=halve_each_epoch)
        run = trainer(max_epochs=epochs, enable_checkpointing=True, default_root_dir=str(tmp_path / str(epochs)))
        run.fit(module, datamodule=data, ckpt_path=checkpoint)
        return run, module.state_dict()

    _, expected = fit(3)
    run, _ = fit(2)
    assert run.checkpoint_callback is not None
    _, resumed = fit(3, run.checkpoint_callback.best_model_path)  # type: ignore[attr-defined]
    assert [name for name in expected if not torch.equal(resumed[name], expected[name])] == []
