"""A run of UW or IMTL resumes from a checkpoint in which all that it learned was one parameter."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from recon.methods import create_method
from recon.methods.base.learned_scalars import LearnedScalarsMethod
from recon.training.older_checkpoints import split_learned_numbers


class Run(nn.Module):
    """A network, and what a method learns: one vector as of old, or a number per task."""

    def __init__(self, learned: nn.Module) -> None:
        super().__init__()
        self.first = nn.Linear(2, 2)
        self.method = learned
        self.last = nn.Linear(2, 1)
        for layer in (self.first, self.last):
            nn.init.ones_(layer.weight)
            nn.init.zeros_(layer.bias)

    def loss(self, numbers: Tensor) -> Tensor:
        return self.last(self.first(torch.ones(2))).sum() + (numbers * torch.tensor([1.0, -2.0, 3.0])).sin().sum()


class Vector(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.numbers = nn.Parameter(torch.zeros(3))


OPTIMIZERS = [
    lambda parameters: torch.optim.AdamW(parameters, lr=0.1),
    lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9),
]


def step(run: Run, optimizer: torch.optim.Optimizer) -> None:
    numbers = run.method.by_task.stacked() if isinstance(run.method, LearnedScalarsMethod) else run.method.numbers
    assert isinstance(numbers, Tensor)
    optimizer.zero_grad()
    run.loss(numbers).backward()
    optimizer.step()


@pytest.mark.parametrize("make", OPTIMIZERS)
@pytest.mark.parametrize("name", ["uw", "imtl"])
def test_an_older_optimizer_goes_on(make: Any, name: str) -> None:
    vector, method = Vector(), create_method(name)
    method.bind(3)
    assert isinstance(method, LearnedScalarsMethod)
    old, new = Run(vector), Run(method)
    optimizers = [make(run.parameters()) for run in (old, new)]
    for _ in range(3):
        step(old, optimizers[0])
    checkpoint = {"optimizer_states": [copy.deepcopy(optimizers[0].state_dict())]}
    split_learned_numbers(checkpoint, new)
    optimizers[1].load_state_dict(checkpoint["optimizer_states"][0])
    for layer in ("first", "last"):
        new.get_submodule(layer).load_state_dict(old.get_submodule(layer).state_dict())
    method.by_task.set(vector.numbers)
    for _ in range(3):
        for run, optimizer in zip((old, new), optimizers, strict=True):
            step(run, optimizer)
    torch.testing.assert_close(method.by_task.stacked(), vector.numbers)
    assert torch.equal(new.last.weight, old.last.weight)


@pytest.mark.parametrize("make", OPTIMIZERS)
def test_a_checkpoint_of_today_stays(make: Any) -> None:
    method = create_method("uw")
    method.bind(3)
    run = Run(method)
    optimizer = make(run.parameters())
    step(run, optimizer)
    checkpoint = {"optimizer_states": [optimizer.state_dict()]}
    before = copy.deepcopy(checkpoint)
    split_learned_numbers(checkpoint, run)
    assert str(checkpoint) == str(before)
    split_learned_numbers({}, run)
