import re
from collections.abc import Callable
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from recon.data import Glyphs, PerTask
from recon.models import LeNet, RotatedHeads
from recon.tasks import classification
from recon.training import BranchOptions, MultiTaskModule, RotationOptions

TrainerFactory = Callable[..., pl.Trainer]

TASKS = [classification("digit", 10), classification("letter", 10)]


def rotations(module: MultiTaskModule) -> dict[str, Tensor]:
    return {name: buffer for name, buffer in module.heads.named_buffers() if name.endswith(".rotation.matrix")}


def turned(module: MultiTaskModule) -> list[str]:
    return [name for name, matrix in rotations(module).items() if not torch.equal(matrix, torch.eye(len(matrix)))]


ALL = ["digit.rotation.matrix", "letter.rotation.matrix"]


@pytest.mark.parametrize(
    "options",
    [
        {"method": "rotograd", "at": "representation"},
        {"method": "rotograd", "method_options": {"method": "pcgrad"}},
        {"method": "rotograd", "branch": BranchOptions(layers=["conv2"])},
        {"method": "graddrop", "rotations": RotationOptions(size=20, lr=0.01)},
        {"method": "uw", "rotations": RotationOptions()},
    ],
    ids=["published", "inside", "branched", "graddrop", "losses"],
)
def test_rotations_train_beside_any_method(options: dict[str, Any], trainer: TrainerFactory, glyphs: Glyphs) -> None:
    module = MultiTaskModule(LeNet(), TASKS, **options)
    assert turned(module) == []
    trainer().fit(module, datamodule=glyphs)
    assert turned(module) == ALL


def test_rotations_are_those_asked_for_and_no_parameters() -> None:
    plain = MultiTaskModule(LeNet(), TASKS)
    module = MultiTaskModule(LeNet(), TASKS, method="rotograd", rotations=RotationOptions(20, lr=0.01, decay=0.9))
    assert repr(module.heads["digit"].rotation) == "Rotation(20, lr=0.01, decay=0.9)"
    counts = [sum(p.numel() for p in each.parameters()) for each in (plain, module)]
    assert counts[0] == counts[1]
    assert rotations(plain) == {}
    assert sorted(rotations(MultiTaskModule(LeNet(), TASKS, method="rotograd"))) == ALL


def test_a_single_task_and_heads_with_rotations_stay_as_they_are() -> None:
    assert rotations(MultiTaskModule(LeNet(), TASKS, only=["digit"], method="rotograd")) == {}
    heads = RotatedHeads({task.name: nn.Linear(50, 10) for task in TASKS}, 30)
    assert MultiTaskModule(LeNet(), TASKS, method="rotograd", heads=heads).heads is heads


def test_micro_batches_train_rotations(trainer: TrainerFactory) -> None:
    found = []
    for size, micro_batches in ((16, 1), (8, 2)):
        pl.seed_everything(0, verbose=False)
        data = Glyphs(train_size=48, test_size=10, batch_size=size, shuffle_seed=1)
        module = MultiTaskModule(LeNet(), TASKS, method="rotograd").double()
        trainer(accumulate_grad_batches=micro_batches, precision="64-true").fit(module, datamodule=data)
        found.append(torch.stack([*rotations(module).values()]))
    torch.testing.assert_close(found[0], found[1], rtol=1e-6, atol=1e-8)


def test_data_of_each_tasks_own_is_refused(trainer: TrainerFactory) -> None:
    data = PerTask({name: Glyphs(train_size=16, test_size=8, batch_size=8) for name in ("digit", "letter")})
    module = MultiTaskModule(LeNet(), data.tasks, method="rotograd")
    with pytest.raises(ValueError, match="rotations align the gradients of the tasks in the same samples"):
        trainer().fit(module, datamodule=data)


def test_a_backbone_that_does_not_say_its_features_needs_a_size() -> None:
    backbone = nn.Sequential(nn.Flatten(), nn.Linear(36 * 36, 7))
    heads = nn.ModuleDict({task.name: nn.Linear(7, 10) for task in TASKS})
    with pytest.raises(ValueError, match=re.escape("Sequential does not say its num_features; set that attribute, or")):
        MultiTaskModule(backbone, TASKS, method="rotograd", heads=heads)
    module = MultiTaskModule(backbone, TASKS, method="rotograd", heads=heads, rotations=RotationOptions(size=7))
    assert sorted(rotations(module)) == ALL
