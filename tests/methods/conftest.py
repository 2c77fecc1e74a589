"""One family of Jacobians for all methods: float64, fixed seeds, every shape of trouble a training run can make."""

import pytest
import torch
from torch import Tensor

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
    }
    if tasks > 1:
        rank = min(tasks // 2, PARAMETERS)
        positive = 0.1 + torch.rand(tasks - 1, generator=generator, dtype=torch.float64)
        jacobians |= {
            "rank deficient": random[:, :rank] @ random[:rank],
            "one zero gradient": torch.cat([random[:-1], torch.zeros(1, PARAMETERS, dtype=torch.float64)]),
            "strongly stationary": torch.cat([random[:-1], -(positive @ random[:-1])[None]]),
            "weakly stationary": torch.cat([random[:1], -0.5 * random[:1], random[2:]]),
            "zero mean": torch.cat([random[:-1], -random[:-1].sum(0, keepdim=True)]),
        }
    return jacobians


FAMILY = {f"{kind}, {tasks} tasks": jacobian for tasks in TASKS for kind, jacobian in _family(tasks).items()}


@pytest.fixture(params=list(FAMILY))
def jacobian(request: pytest.FixtureRequest) -> Tensor:
    """Each Jacobian of the family, (K, P), float64."""
    return FAMILY[request.param].clone()
