"""Every architecture trains: for one task, for several, and with the worst layers of its own map branched."""

from collections.abc import Callable
from pathlib import Path

import pytest
import pytorch_lightning as pl
from torch import nn

from recon.conflict import ConflictMap
from recon.data import Glyphs
from recon.gradients.layers import shared_layers
from recon.models import (
    BMTAS,
    CGC,
    LTB,
    MLP,
    MTAN,
    PLE,
    CrossStitch,
    DSelectK,
    MMoE,
    ResNet18,
    create_architecture,
    list_architectures,
)
from recon.tasks import classification
from recon.training import BranchOptions, ConflictCallback, MultiTaskModule

TASKS = [classification("digit", 10), classification("letter", 10)]
PIXELS = 36 * 36
STAGES = {"layer1": 2, "layer2": 4}


def resnet() -> ResNet18:
    return ResNet18(width=2, features=5)


MADE: dict[str, Callable[[], nn.Module]] = {
    "bmtas": lambda: BMTAS(resnet(), [*STAGES]),
    "cgc": lambda: CGC(resnet, gate_inputs=PIXELS),
    "cross_stitch": lambda: CrossStitch(resnet, STAGES),
    "dselect_k": lambda: DSelectK(resnet, experts=3, gate_inputs=PIXELS),
    "hard_sharing": lambda: create_architecture("hard_sharing", backbone=resnet()),
    "ltb": lambda: LTB(resnet, [*STAGES]),
    "mmoe": lambda: MMoE(resnet, experts=2, gate_inputs=PIXELS),
    "mtan": lambda: MTAN(resnet(), STAGES, expansion=1),
    "ple": lambda: PLE([resnet, lambda: MLP(5, [4])], gate_inputs=PIXELS),
}


def test_all_are_tried_but_those_of_dense_tasks_and_of_heads() -> None:
    assert list_architectures() == sorted([*MADE, "segnet_mtan", "rotograd"])


@pytest.mark.parametrize("name", MADE)
def test_it_trains_alone_plainly_and_with_recon(
    name: str, trainer: Callable[..., pl.Trainer], glyphs: Glyphs, tmp_path: Path
) -> None:
    def train(**options: object) -> MultiTaskModule:
        module = MultiTaskModule(MADE[name](), TASKS, **options)  # type: ignore[arg-type]
        one = trainer(limit_train_batches=2, limit_val_batches=1, callbacks=callbacks)
        one.fit(module, datamodule=glyphs)
        assert {f"val/{task}/accuracy" for task in module.task_names} <= one.callback_metrics.keys()
        return module

    callbacks: list[pl.Callback] = []
    train(only=["letter"])
    callbacks.append(ConflictCallback(path=str(tmp_path / "map.json")))
    plain = train(method="pcgrad")
    found = ConflictMap.load(tmp_path / "map.json")
    assert list(found.layers) == list(shared_layers(plain.backbone))
    branched = train(method="pcgrad", branch=BranchOptions(map=str(tmp_path / "map.json"), top=3))
    assert set(shared_layers(branched.backbone)) == set(found.layers) - set(found.top(3, severity=-0.1))
