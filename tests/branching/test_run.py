"""One task's path alone: each branch is trained by its own task's data, as a separate copy would
be.
"""

import copy
import warnings
from typing import Literal

import pytest
import torch
from separate_copies import still
from torch import Tensor, nn

from recon.branching import BranchedModule, branch

TASKS = ("left", "right")


class Traceable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.early, self.norm1 = nn.Linear(4, 4), nn.BatchNorm1d(4)
        self.middle, self.norm2 = nn.Linear(4, 4), nn.BatchNorm1d(4)
        self.late = nn.Linear(4, 4)

    def forward(self, x: Tensor, *, scale: float = 1.0) -> Tensor:
        x = self.norm1(self.early(x)).relu()
        return self.late(self.norm2(self.middle(x)).relu()) * scale


class ControlFlow(Traceable):
    def forward(self, x: Tensor, *, scale: float = 1.0) -> Tensor:
        return x if x.sum() > 1e6 else super().forward(x, scale=scale)


def branched(network: nn.Module, layers: list[str], statistics: Literal["shared", "per_task"]) -> BranchedModule:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return branch(network, layers, TASKS, statistics=statistics)


@pytest.mark.parametrize("network", [Traceable, ControlFlow])
def test_branches_learn_from_their_own_tasks_data_alone(network: type[nn.Module]) -> None:
    torch.manual_seed(0)
    plain = still(network())
    layers = ["early", "norm1", "middle", "norm2", "late"]
    net = branched(plain, layers, "shared").train()
    copies = {task: copy.deepcopy(plain).train() for task in TASKS}
    together = (net, nn.ModuleDict(copies))
    optimizers = [torch.optim.SGD(own.parameters(), lr=0.1, momentum=0.9) for own in together]
    for step in range(4):
        for i, task in enumerate(TASKS):
            x = torch.randn(6 + i, 4).double() * (i + 1) + 3 * i
            for optimizer, output in zip(optimizers, (net.run(task, x), copies[task](x)), strict=True):
                optimizer.zero_grad()
                (output.square().sum() + step).backward()
                optimizer.step()
    x = torch.randn(6, 4).double()
    for task, own in copies.items():
        state = net.extract(task).state_dict()
        for name, tensor in own.state_dict().items():
            torch.testing.assert_close(state[name], tensor, rtol=0, atol=1e-12)
        expected = own.eval()(x, scale=2.0)
        torch.testing.assert_close(net.eval().run(task, x, scale=2.0), expected, rtol=0, atol=1e-12)
        torch.testing.assert_close(net(x, scale=2.0)[task], expected, rtol=0, atol=1e-12)
        torch.testing.assert_close(net.extract(task)(x, scale=2.0), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("network", [Traceable, ControlFlow])
def test_gradients_are_the_tasks_branch_and_the_shared_parameters(network: type[nn.Module]) -> None:
    torch.manual_seed(0)
    net = branched(still(network()), ["middle"], "shared")
    plain, x = net.extract("right"), torch.randn(6, 4).double()
    net.run("right", x).square().sum().backward()
    plain(x).square().sum().backward()
    assert all(parameter.grad is None for parameter in net.branch_parameters("left"))
    for name, parameter in plain.named_parameters():
        home = net.branches["right"] if name.startswith("middle") else net.shared
        torch.testing.assert_close(home.get_parameter(name).grad, parameter.grad, rtol=0, atol=1e-12)


@pytest.mark.parametrize("network", [Traceable, ControlFlow])
def test_statistics_per_task_see_the_tasks_data_alone(network: type[nn.Module]) -> None:
    torch.manual_seed(0)
    net = branched(network(), ["middle"], "per_task").train()
    before = net.extract("left").norm2.running_mean
    net.run("right", torch.randn(6, 4))
    assert torch.equal(net.extract("left").norm2.running_mean, before)
    assert net.extract("right").norm2.num_batches_tracked == 1
    assert net.extract("left").norm2.num_batches_tracked == 0


def test_unknown_task_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown task 'rigth'; nearest: 'right'"):
        branched(Traceable(), ["late"], "shared").run("rigth", torch.zeros(2, 4))
