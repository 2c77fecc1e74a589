"""A gate's regulariser is a part of the loss of its task alone; temperatures follow the epochs."""

import math
from collections.abc import Callable

import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from recon.data import Glyphs
from recon.models import LTB, CrossStitch, DSelectK, LeNet, ResNet18
from recon.tasks import classification
from recon.training import BranchOptions, MultiTaskModule

TASKS = [classification("digit", 10), classification("letter", 10)]


def selecting() -> DSelectK:
    torch.manual_seed(0)
    return DSelectK(lambda: LeNet(features=5), experts=3, k=2, entropy=0.1, gate_inputs=36 * 36)


def batch() -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    torch.manual_seed(1)
    return torch.rand(4, 1, 36, 36), {task.name: torch.arange(4) for task in TASKS}


def gates(module: MultiTaskModule) -> dict[str, nn.Module]:
    return {task: module.backbone.branches[task].gate for task in module.task_names}  # type: ignore[index]


def test_each_loss_has_the_regulariser_of_its_own_gate() -> None:
    module = MultiTaskModule(selecting(), TASKS)
    for number, gate in enumerate(gates(module).values()):
        nn.init.normal_(gate.code_weight, std=0.01 * (number + 1))
    x, targets = batch()
    losses = module.losses((x, targets))
    plain = {task.name: task.loss(module(x)[task.name], targets[task.name]) for task in TASKS}
    terms = {task: gate.regulariser() for task, gate in gates(module).items()}
    assert terms["digit"] != terms["letter"]
    for task in plain:
        torch.testing.assert_close(losses[task], plain[task] + terms[task])


def test_a_single_task_has_the_regulariser_too_and_evaluation_has_none() -> None:
    module = MultiTaskModule(selecting(), TASKS, only=["digit"])
    x, targets = batch()
    with_term = module.losses((x, targets))["digit"]
    without = module.eval().losses((x, targets))["digit"]
    assert with_term > without + 0.1
    torch.testing.assert_close(without, TASKS[0].loss(module(x)["digit"], targets["digit"]))


def test_the_gradient_of_a_regulariser_reaches_the_gate_of_its_task(
    trainer: Callable[..., pl.Trainer], glyphs: Glyphs
) -> None:
    module = MultiTaskModule(selecting(), TASKS, method="mgda", branch=BranchOptions(layers=["experts.0.conv1"]))
    before = {task: gate.code_weight.detach().clone() for task, gate in gates(module).items()}
    trainer(limit_train_batches=1).fit(module, datamodule=glyphs)
    assert all(not torch.equal(gate.code_weight, before[task]) for task, gate in gates(module).items())


def test_temperatures_follow_the_epochs_and_a_resumed_run(
    trainer: Callable[..., pl.Trainer], glyphs: Glyphs, tmp_path: object
) -> None:
    seen: list[float] = []

    class Temperatures(pl.Callback):
        def on_train_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, *_: object) -> None:
            seen.append(module.backbone.units[0].temperature.item())  # type: ignore[union-attr, index, operator]

    def fit(epochs: int, path: str | None) -> MultiTaskModule:
        plan = LTB(lambda: ResNet18(width=2), ["layer1", "layer2"])
        module = MultiTaskModule(plan, TASKS)
        one = trainer(max_epochs=epochs, limit_train_batches=1, limit_val_batches=0, callbacks=[Temperatures()])
        one.fit(module, datamodule=glyphs, ckpt_path=path)
        one.save_checkpoint(f"{tmp_path}/{epochs}.ckpt")
        return module

    fit(2, None)
    fit(3, f"{tmp_path}/2.ckpt")
    assert seen[0] == math.inf
    assert seen[1] == pytest.approx(2 / 20 / math.sqrt(2))
    assert seen[2] == pytest.approx(3 / 20 / math.sqrt(3))


def test_a_branched_network_with_temperatures_trains(trainer: Callable[..., pl.Trainer], glyphs: Glyphs) -> None:
    torch.manual_seed(0)
    plan = LTB(lambda: ResNet18(width=2), ["layer1", "layer2"])
    module = MultiTaskModule(plan, TASKS, branch=BranchOptions(layers=["networks.digit.layer1.0.conv1"]))
    before = [unit.logits.detach().clone() for unit in module.backbone.shared.units]
    trainer(max_epochs=2).fit(module, datamodule=glyphs)
    for unit, start in zip(module.backbone.shared.units, before, strict=True):
        assert unit.temperature.item() == pytest.approx(2 / 20 / math.sqrt(2))
        assert not torch.equal(unit.logits, start)


def test_a_network_with_features_for_each_task_has_no_single_representation() -> None:
    with pytest.raises(ValueError, match="CrossStitch gives each task features of its own, and has no single"):
        MultiTaskModule(CrossStitch(LeNet, ["conv1"]), TASKS, method="mgda", at="representation")


def test_a_branched_architecture_of_columns_gives_each_head_its_own_features() -> None:
    torch.manual_seed(0)
    plan = CrossStitch(lambda: LeNet(features=5), ["conv1"])
    module = MultiTaskModule(plan, TASKS, branch=BranchOptions(layers=["networks.digit.conv2"])).eval()
    x, _ = batch()
    features = module.backbone(x)
    for task in ("digit", "letter"):
        torch.testing.assert_close(module(x)[task], module.heads[task](features[task][task]))
        torch.testing.assert_close(module.run(task, x), module(x)[task])
