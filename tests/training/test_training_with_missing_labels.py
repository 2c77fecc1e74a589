"""Training in Lightning on batches that lack labels, against loops by hand."""

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, l1_loss, mse_loss
from torch.utils.data import DataLoader

import recon
from recon.tasks.per_image import classification
from recon.tasks.task import Task
from recon.training import BranchOptions, ConflictCallback, MultiTaskModule

TrainerFactory = Callable[..., pl.Trainer]
TASKS = [classification("kind", 4), Task("size", mse_loss, dict, 1), Task("age", l1_loss, dict, 1)]
NAMES = [task.name for task in TASKS]


def plain_sgd(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.1)


class Network(nn.Sequential):
    num_features = 5

    def __init__(self) -> None:
        super().__init__(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 5))


def module(**options: Any) -> MultiTaskModule:
    torch.manual_seed(0)
    return MultiTaskModule(Network(), TASKS, **{"optimizer": plain_sgd, **options})


class Sparse(torch.utils.data.Dataset[Any]):
    """Each label is there with a probability of a half; those that are not are marked or masked."""

    def __init__(self, size: int = 24, masks: bool = False) -> None:
        generator = torch.Generator().manual_seed(2)
        self.x = torch.randn(size, 3, generator=generator)
        self.there = torch.rand(size, 3, generator=generator) < 0.5
        self.values = torch.randn(size, 3, generator=generator)
        self.masks = masks

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> Any:
        values: list[Tensor] = [(self.values[index, 0].abs() * 2).long().clamp(max=3), *self.values[index, 1:, None]]
        targets: dict[str, Any] = {}
        for name, value, there in zip(NAMES, values, self.there[index], strict=True):
            if self.masks:
                targets[name] = {"target": value, "mask": there}
            else:
                targets[name] = value if there else torch.full_like(value, -1 if name == "kind" else math.nan)
        return self.x[index], targets


def losses_by_hand(network: MultiTaskModule, x: Tensor, targets: dict[str, Tensor]) -> dict[str, Tensor]:
    predictions = network(x)
    losses = {}
    for task, loss in zip(NAMES, (cross_entropy, mse_loss, l1_loss), strict=True):
        kept = targets[task] != -1 if task == "kind" else targets[task].isfinite()[:, 0]
        if kept.any():
            losses[task] = loss(predictions[task][kept], targets[task][kept])
    return losses


@pytest.mark.parametrize("batch_size", [1, 2, 6])
@pytest.mark.parametrize("branch", [None, BranchOptions(layers=["2"])], ids=["plain", "branched"])
@pytest.mark.parametrize("masks", [False, True], ids=["marks", "masks"])
@pytest.mark.parametrize("method", ["joint", "mgda", "pcgrad"])
def test_training_is_a_plain_loop_over_the_tasks_that_are_there(
    method: str, masks: bool, branch: Any, batch_size: int, trainer: TrainerFactory
) -> None:
    network = module(method=recon.create_method(method), branch=branch, update_scale="method")
    expected = copy.deepcopy(network)
    fit = trainer(limit_val_batches=0)
    fit.fit(network, DataLoader(Sparse(masks=masks), batch_size=batch_size))

    engine = recon.Engine(expected.backbone, NAMES, expected.method)
    optimizer = plain_sgd(expected.parameters())
    steps = 0
    for x, targets in DataLoader(Sparse(), batch_size=batch_size):
        if losses := losses_by_hand(expected, x, targets):
            optimizer.zero_grad()
            engine.backward(losses)
            optimizer.step()
            steps += 1
    assert fit.global_step == steps
    assert steps < 24 / batch_size or batch_size > 1, "some samples have no label at all"
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(parameter, expected.get_parameter(name), msg=lambda m, name=name: f"{name}: {m}")
        assert parameter.isfinite().all()


@pytest.mark.parametrize("method", ["joint", "mgda", "pcgrad"])
@pytest.mark.parametrize("branch", [None, BranchOptions(layers=["2"])], ids=["plain", "branched"])
def test_micro_batches_weigh_by_their_labels(method: str, branch: Any, trainer: TrainerFactory) -> None:
    whole = module(method=recon.create_method(method), branch=branch)
    parts = copy.deepcopy(whole)
    trainer(limit_val_batches=0).fit(whole, DataLoader(Sparse(), batch_size=6))
    fit = trainer(limit_val_batches=0, accumulate_grad_batches=3)
    fit.fit(parts, DataLoader(Sparse(), batch_size=2))
    assert fit.global_step == 4
    for name, parameter in parts.named_parameters():
        torch.testing.assert_close(parameter, whole.get_parameter(name), msg=lambda m, name=name: f"{name}: {m}")


def test_heads_of_absent_tasks_and_their_state_stand_still(trainer: TrainerFactory) -> None:
    network = module(method="uw")
    before = copy.deepcopy(network)
    data = Sparse()
    data.there[:, 1] = False
    trainer(limit_val_batches=0).fit(network, DataLoader(data, batch_size=6))
    for (name, parameter), start in zip(network.named_parameters(), before.parameters(), strict=True):
        still = name.startswith("heads.size") or name.endswith(".1")
        assert torch.equal(parameter, start) == still, name


def test_the_analyzer_counts_pairs_that_were_there(trainer: TrainerFactory) -> None:
    data = Sparse()
    data.there[:] = True
    data.there[6:, 2] = False
    search = ConflictCallback()
    trainer(limit_val_batches=0, callbacks=[search]).fit(module(), DataLoader(data, batch_size=6))
    assert search.analyzer is not None
    found = search.analyzer.conflict_map()
    assert found.provenance["steps"] == 4
    assert found.pairs == (("kind", "size"), ("kind", "age"), ("size", "age"))
    assert found.histogram.sum(2).tolist() == [[4, 1, 1]] * len(found.layers)


def test_gradients_at_the_representation_are_of_the_tasks_that_are_there(trainer: TrainerFactory) -> None:
    network = module(method="mgda", at="representation")
    fit = trainer(limit_val_batches=0)
    fit.fit(network, DataLoader(Sparse(), batch_size=2))
    assert fit.global_step > 0
    assert all(parameter.isfinite().all() for parameter in network.parameters())


@pytest.mark.parametrize("method", ["fmtl", "famo"])
def test_methods_that_evaluate_again_see_the_same_labels(method: str, trainer: TrainerFactory) -> None:
    network = module(method=method)
    trainer(limit_val_batches=0, max_steps=4).fit(network, DataLoader(Sparse(), batch_size=4))
    assert all(parameter.isfinite().all() for parameter in network.parameters())


def test_one_task_alone_skips_batches_with_labels_of_others(trainer: TrainerFactory) -> None:
    network = module(only=["age"])
    fit = trainer(limit_val_batches=0)
    fit.fit(network, DataLoader(Sparse(), batch_size=1))
    assert fit.global_step == Sparse().there[:, 2].sum()


def test_losses_are_logged_of_the_tasks_that_are_there(trainer: TrainerFactory) -> None:
    data = Sparse(size=6)
    data.there[:, 0] = False
    fit = trainer(limit_val_batches=0)
    fit.fit(module(), DataLoader(data, batch_size=6))
    assert {"loss/size", "loss/age"} <= fit.progress_bar_metrics.keys()
    assert "loss/kind" not in fit.progress_bar_metrics
