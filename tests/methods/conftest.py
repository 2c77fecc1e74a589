"""One family of Jacobians for all methods: float64, fixed seeds, every shape of trouble a training
run can make.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parent))  # for one_layer

TASKS = (1, 2, 3, 5, 10, 40)
PARAMETERS = 12


def _family(tasks: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(tasks)
    random = torch.randn(tasks, PARAMETERS, generator=generator, dtype=torch.float64)
    mixed = torch.logspace(-10, 15, tasks, dtype=torch.float64)[:, None]
    jacobians = {
        "random": random,
        "zero": torch.zeros_like(random),
        "tiny": 1e-10 * random,
        "huge": 1e15 * random,
        "norms from 1e-10 to 1e15": mixed * random / random.norm(dim=1, keepdim=True),
        "identical": random[:1].repeat(tasks, 1),
        "no conflict": random.abs(),
        "of a network": _of_a_network(tasks),
    }
    if tasks > 1:
        rank = min(tasks // 2, PARAMETERS)
        positive = 0.1 + torch.rand(tasks - 1, generator=generator, dtype=torch.float64)
        jacobians |= {
            "nearly identical": random[:1] + 1e-4 * random,
            "nearly opposed": torch.cat([random[:1], 1e-4 * random[1:2] - random[:1], random[2:]]),
            "rank deficient": random[:, :rank] @ random[:rank],
            "one zero gradient": torch.cat([random[:-1], torch.zeros(1, PARAMETERS, dtype=torch.float64)]),
            "strongly stationary": torch.cat([random[:-1], -(positive @ random[:-1])[None]]),
            "weakly stationary": torch.cat([random[:1], -0.5 * random[:1], random[2:]]),
            "zero mean": torch.cat([random[:-1], -random[:-1].sum(0, keepdim=True)]),
        }
    return jacobians


def _of_a_network(tasks: int) -> Tensor:
    """Task gradients of a small network in training, in float32: K targets that are linear in what
    it sees.
    """
    generator = torch.Generator().manual_seed(100 + tasks)
    inputs = torch.randn(64, 8, generator=generator)
    targets = inputs @ torch.randn(8, tasks, generator=generator)
    first, second = torch.randn(8, 6, generator=generator) / 3, torch.randn(6, tasks, generator=generator)
    network = nn.Linear(8, 6, bias=False)
    network.weight.data = first.T.contiguous()
    losses = ((network(inputs).tanh() @ second - targets) ** 2).mean(0)
    gradients = [torch.autograd.grad(loss, network.weight, retain_graph=True)[0] for loss in losses]
    return torch.stack(gradients).flatten(1).double()


FAMILY = {f"{kind}, {tasks} tasks": jacobian for tasks in TASKS for kind, jacobian in _family(tasks).items()}


@pytest.fixture
def family() -> dict[str, Tensor]:
    """All Jacobians of the family by name, for tests of many methods: a test a method, not a test a
    Jacobian.
    """
    return {name: jacobian.clone() for name, jacobian in FAMILY.items()}


@pytest.fixture(params=list(FAMILY))
def jacobian(request: pytest.FixtureRequest) -> Tensor:
    """Each Jacobian of the family, (K, P), float64."""
    return FAMILY[request.param].clone()


@pytest.fixture
def same_direction() -> Callable[[Tensor, Tensor], bool]:
    """Whether two vectors have the same direction to 1e-4."""

    def same(first: Tensor, second: Tensor) -> bool:
        return bool((first / first.norm() - second / second.norm()).norm() <= 1e-4)

    return same


_REGULAR = ("random", "tiny", "huge", "no conflict", "of a network")


@pytest.fixture(params=[name for name in FAMILY if name.split(",")[0] in _REGULAR and not name.endswith(" 1 tasks")])
def regular(request: pytest.FixtureRequest) -> Tensor:
    """Each Jacobian of two tasks and more that is neither degenerate nor of very unequal norms, (K,
    P), float64.
    """
    return FAMILY[request.param].clone()
