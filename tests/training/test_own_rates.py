"""Parts of a network that learn faster than the rest."""

from collections.abc import Callable

import pytest
import pytorch_lightning as pl
import torch
from torch.optim.lr_scheduler import StepLR

from recon.data import Glyphs
from recon.models import CrossStitch, LeNet
from recon.tasks import classification
from recon.training import MultiTaskModule

TASKS = [classification("digit", 10), classification("letter", 10)]


def module_of(scale: float) -> MultiTaskModule:
    torch.manual_seed(0)
    plan = CrossStitch(LeNet, ["conv1", "conv2"], unit_lr_scale=scale)
    return MultiTaskModule(plan, TASKS, scheduler=lambda optimizer: StepLR(optimizer, 1, gamma=0.5))


def test_units_take_a_step_of_their_own_rate_and_the_rest_the_same_one(
    trainer: Callable[..., pl.Trainer], glyphs: Glyphs
) -> None:
    starts = module_of(1).state_dict()
    moved = []
    for scale in (1, 100):
        module = module_of(scale)
        trainer(max_steps=1, limit_val_batches=0).fit(module, datamodule=glyphs)
        moved.append({name: value - starts[name] for name, value in module.state_dict().items()})
    units = [name for name in starts if ".units." in name]
    assert len(units) == 2
    for name in starts:
        torch.testing.assert_close(moved[1][name], moved[0][name] * (100 if name in units else 1), rtol=1e-4, atol=1e-6)
    assert all(moved[0][name].any() for name in units)


def test_schedules_and_a_rate_that_was_found_keep_the_ratio() -> None:
    module = module_of(100)
    module.lr = 0.02
    configured = module.configure_optimizers()
    optimizer, schedule = configured["optimizer"], configured["lr_scheduler"]["scheduler"]  # type: ignore[index,call-overload]
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.02, 2.0])
    assert [group["momentum"] for group in optimizer.param_groups] == [0.9, 0.9]
    optimizer.step()
    schedule.step()
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.01, 1.0])


def test_without_a_scale_there_is_one_group() -> None:
    optimizer = module_of(1).configure_optimizers()["optimizer"]  # type: ignore[index,call-overload]
    assert len(optimizer.param_groups) == 1


@pytest.mark.parametrize("scale", [0, -1, float("nan"), float("inf")])
def test_a_scale_that_is_not_positive_is_refused(scale: float) -> None:
    with pytest.raises(ValueError, match=r"unit_lr_scale is .*; it must be a positive number"):
        module_of(scale)
