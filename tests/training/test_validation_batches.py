"""Methods that learn from validation batches, in Lightning."""

from collections.abc import Callable
from functools import partial

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

import recon
from recon.tasks.task import Task
from recon.training import MultiTaskModule

TrainerFactory = Callable[..., pl.Trainer]
Samples = list[tuple[Tensor, dict[str, Tensor]]]


class Small(nn.Module):
    num_features = 5

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x).tanh()).tanh()


def samples(seed: int, number: int) -> Samples:
    draw = torch.Generator().manual_seed(seed)
    return [
        (torch.randn(6, generator=draw), {"a": torch.randn(1, generator=draw), "b": torch.randn(1, generator=draw)})
        for _ in range(number)
    ]


def module_of(method: str) -> MultiTaskModule:
    torch.manual_seed(0)
    tasks = [Task(name, nn.MSELoss(), dict, 1) for name in ("a", "b")]
    optimizer = partial(torch.optim.SGD, lr=0.05)
    return MultiTaskModule(Small(), tasks, method=method, method_options={"lr": 0.05}, optimizer=optimizer)


@pytest.mark.parametrize("method", ["moml", "auto_lambda", "forum"])
def test_steps_are_those_of_the_engine_with_the_batches_of_both_loaders(method: str, trainer: TrainerFactory) -> None:
    training, held_out = DataLoader(samples(1, 12), batch_size=4), DataLoader(samples(2, 6), batch_size=2)
    module, by_hand = module_of(method), module_of(method)
    trainer(max_epochs=2).fit(module, {"train": training, "validation": held_out})
    engine = recon.Engine(by_hand.backbone, ["a", "b"], by_hand.method, update_scale="sum")
    optimizer = torch.optim.SGD(by_hand.parameters(), lr=0.05)
    for _ in range(2):
        for batch, beside in zip(training, held_out, strict=True):
            engine.step(
                lambda other=None, own=batch: by_hand.losses(own),
                optimizer,
                validation=lambda own=beside: by_hand.losses(own),
            )
        by_hand.method.end_epoch()
    for name, value in module.state_dict().items():
        torch.testing.assert_close(value, by_hand.state_dict()[name])


@pytest.mark.parametrize("method", ["moml", "auto_lambda", "forum"])
def test_training_without_a_loader_of_validation_batches_is_refused(method: str, trainer: TrainerFactory) -> None:
    module = module_of(method)
    before = module.backbone.first.weight.clone()
    with pytest.raises(ValueError, match=r"learns its weights from a validation batch in each step, .* 'validation': "):
        trainer(max_epochs=1).fit(module, DataLoader(samples(1, 8), batch_size=4))
    assert torch.equal(module.backbone.first.weight, before)


@pytest.mark.parametrize("method", ["moml", "auto_lambda"])
def test_a_single_task_is_told_that_it_has_no_weight_to_learn(method: str, trainer: TrainerFactory) -> None:
    tasks = [Task(name, nn.MSELoss(), dict, 1) for name in ("a", "b")]
    module = MultiTaskModule(Small(), tasks, only=["a"], method=method)
    with pytest.raises(ValueError, match="a single task has no weight to learn; train it with the method joint"):
        trainer(max_epochs=1).fit(module, DataLoader(samples(1, 8), batch_size=4))


def test_a_method_without_need_of_them_trains_on_the_training_batches_alone(trainer: TrainerFactory) -> None:
    training, held_out = (DataLoader(samples(seed, 12), batch_size=4) for seed in (1, 2))
    tasks = [Task(name, nn.MSELoss(), dict, 1) for name in ("a", "b")]
    states = []
    for loaders in (training, {"train": training, "validation": held_out}):
        torch.manual_seed(0)
        module = MultiTaskModule(Small(), tasks)
        trainer(max_epochs=1).fit(module, loaders)
        states.append(module.state_dict())
    torch.testing.assert_close(*states)


def test_more_validation_than_training_batches_are_refused(trainer: TrainerFactory) -> None:
    training, held_out = (DataLoader(samples(1, number), batch_size=4) for number in (8, 12))
    with pytest.raises(ValueError, match=r"has 3 batches and that of training 2, .* again; give larger"):
        trainer(max_epochs=1).fit(module_of("moml"), {"train": training, "validation": held_out})
