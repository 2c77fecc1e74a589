"""Networks compiled by torch: steps as without, plain and branched, with some of the tasks too."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import recon

TASKS = ("a", "b", "c")


class Net(nn.Module):
    def __init__(self, branched: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        backbone: nn.Module = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 5), nn.Tanh())
        self.backbone = recon.branch(backbone, ["2"], TASKS) if branched else backbone
        self.heads = nn.ModuleDict({task: nn.Linear(5, 1) for task in TASKS})
        self.double()

    def features_and_losses(self, run: Callable[[Tensor], Any], x: Tensor) -> tuple[Any, dict[str, Tensor]]:
        features = run(x)
        taken = features if isinstance(features, dict) else dict.fromkeys(TASKS, features)
        return features, {task: (self.heads[task](taken[task]) - i).square().mean() for i, task in enumerate(TASKS)}


@pytest.fixture
def x() -> Tensor:
    return torch.randn(4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.fixture(autouse=True)
def compiled_anew() -> None:
    torch.compiler.reset()


def compiled(module: nn.Module) -> Any:
    return torch.compile(module, backend="aot_eager")


def gradients_of_two_steps(
    net: Net, shared: Any, method: str, x: Tensor, tasks: tuple[str, ...], every: int, at: Any = "parameters"
) -> list[Tensor | None]:
    analyzer = recon.ConflictAnalyzer(shared, TASKS, every) if every else None
    engine = recon.Engine(shared, TASKS, method, analyzer, at=at)
    for present in (TASKS, tasks):
        net.zero_grad()
        features, losses = net.features_and_losses(shared, x)
        given = {task: losses[task] for task in present}
        engine.backward(given, features if at == "representation" else None)
    return [parameter.grad for parameter in net.parameters()]


@pytest.mark.parametrize("branched", [False, True])
@pytest.mark.parametrize("method", ["uw", "pcgrad", "psmgd"])
def test_steps_of_a_compiled_network(method: str, branched: bool, x: Tensor) -> None:
    net = Net(branched)
    shared = compiled(copy.deepcopy(net.backbone))
    for tasks in (TASKS, ("a", "c"), ("b",)):
        for every in (0, 1):
            expected = gradients_of_two_steps(net, net.backbone, method, x, tasks, every)
            other = copy.deepcopy(net)
            other.backbone = shared
            found = gradients_of_two_steps(other, shared, method, x, tasks, every)
            torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10)


def test_a_compiled_network_at_the_representation(x: Tensor) -> None:
    net = Net(branched=False)
    expected = gradients_of_two_steps(net, net.backbone, "mgda", x, TASKS, 0, "representation")
    net.backbone.compile(backend="aot_eager")
    found = gradients_of_two_steps(net, net.backbone, "mgda", x, TASKS, 0, "representation")
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10)


def test_branches_of_absent_tasks_stand_still_in_compiled_code(x: Tensor) -> None:
    net = Net(branched=True)
    shared = compiled(net.backbone)
    engine = recon.Engine(shared, TASKS, "pcgrad")
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    engine.step(lambda batch=None: net.features_and_losses(shared, x)[1], optimizer)
    before = copy.deepcopy(net.backbone.branches["b"].state_dict())
    engine.step(lambda batch=None: {"a": net.features_and_losses(shared, x)[1]["a"]}, optimizer)
    torch.testing.assert_close(net.backbone.branches["b"].state_dict(), before, rtol=0, atol=0)
    assert all(parameter.grad is None for parameter in net.backbone.branch_parameters("b"))
    assert all(parameter.grad is not None for parameter in net.backbone.branch_parameters("a"))


def test_code_compiled_for_a_plain_backward_is_refused_with_the_cure(x: Tensor) -> None:
    net = Net(branched=False)
    shared = compiled(net.backbone)
    engine = recon.Engine(shared, TASKS, "pcgrad")
    net.features_and_losses(shared, x)[1]["a"].backward()
    with pytest.raises(RuntimeError, match=r"made for a plain backward.*FORCE_DISABLE_CACHES=1.*wrong gradients"):
        engine.backward(net.features_and_losses(shared, x)[1])


@pytest.mark.slow
def test_steps_of_a_network_compiled_to_machine_code(x: Tensor) -> None:
    for branched in (False, True):
        net = Net(branched)
        expected = gradients_of_two_steps(net, net.backbone, "pcgrad", x, ("a", "c"), 1)
        with torch.compiler.config.patch(force_disable_caches=True):
            shared: Any = torch.compile(net.backbone)
            found = gradients_of_two_steps(net, shared, "pcgrad", x, ("a", "c"), 1)
        torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10)
