"""Training of a compiled backbone in Lightning: as of one that is not compiled."""

import copy
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

import recon
from recon.tasks import classification
from recon.training.branch_options import BranchOptions

TASKS = [classification("a", 2), classification("b", 3)]


def data() -> DataLoader[Any]:
    inputs = torch.randn(8, 6, generator=torch.Generator().manual_seed(1))
    return DataLoader([(x, {"a": index % 2, "b": index % 3}) for index, x in enumerate(inputs)], batch_size=4)


def trained(backbone: Any, compiles: bool, branch: BranchOptions | None = None) -> list[Tensor]:
    torch.manual_seed(0)
    torch.compiler.reset()
    heads = nn.ModuleDict({"a": nn.Linear(5, 2), "b": nn.Linear(5, 3)})
    module = recon.MultiTaskModule(backbone, TASKS, heads=heads, method="pcgrad", branch=branch)
    if compiles:
        module.backbone.compile(backend="aot_eager")
    trainer = pl.Trainer(
        max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False
    )
    trainer.fit(module, data())
    return [parameter.detach() for parameter in module.parameters()]


@pytest.mark.parametrize("branch", [None, BranchOptions(layers=["2"])])
def test_a_compiled_backbone_trains_as_one_that_is_not(branch: BranchOptions | None) -> None:
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 5))
    expected = trained(copy.deepcopy(backbone), False, branch)
    torch.testing.assert_close(trained(copy.deepcopy(backbone), True, branch), expected)
    if branch is None:  # a branched backbone leaves out the wrapper: it is compiled when it is made
        wrapped = torch.compile(copy.deepcopy(backbone), backend="aot_eager")
        torch.testing.assert_close(trained(wrapped, False), expected)
