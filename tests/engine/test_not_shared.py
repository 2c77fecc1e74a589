"""Modules that say that they are not shared get the sum of the tasks' gradients, in several processes too."""

import pytest
import torch
from in_threads import ThreadProcesses, Threads
from torch import Tensor, nn

import recon
from recon.gradients.wrappers import NotShared

TASKS = ("a", "b")


class Mix(nn.Linear, NotShared):
    pass


class Mixed(nn.Module):
    """A layer, and a mix after it that both tasks use."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.mix = nn.Linear(6, 4), Mix(4, 4)
        self.heads = nn.ModuleDict({task: nn.Linear(4, 1) for task in TASKS})

    def losses(self, x: Tensor) -> dict[str, Tensor]:
        features = self.mix(self.layer(x))
        return {task: (self.heads[task](features) - n).square().mean() for n, task in enumerate(TASKS)}


def gradients(net: nn.Module) -> dict[str, Tensor | None]:
    return {name: parameter.grad for name, parameter in net.named_parameters()}


def step(net: Mixed, x: Tensor, method: str) -> dict[str, Tensor | None]:
    shared = nn.Sequential(net.layer, net.mix)
    recon.Engine(shared, TASKS, method, heads=net.heads).backward(net.losses(x))
    return gradients(net)


@pytest.mark.parametrize("method", ["mgda", "pcgrad", "graddrop"])
def test_they_get_the_sum_of_the_tasks_gradients(method: str, recwarn: pytest.WarningsRecorder) -> None:
    x = torch.randn(8, 6)
    plain = Mixed()
    torch.stack([*plain.losses(x).values()]).sum().backward()
    found = step(Mixed(), x, method)
    for name, gradient in gradients(plain).items():
        if not name.startswith("layer"):
            torch.testing.assert_close(found[name], gradient)
    assert not recwarn.list


def test_several_processes_sum_their_gradients(threads: Threads) -> None:
    x = torch.randn(8, 6)
    expected = step(Mixed(), x, "mgda")
    nets = [Mixed(), Mixed()]  # before the threads, which share one source of random numbers

    def train(own: ThreadProcesses) -> dict[str, Tensor | None]:
        return step(nets[own.rank], x[4 * own.rank : 4 * own.rank + 4], "mgda")

    for found in threads.run(2, train):
        torch.testing.assert_close(found, expected)
