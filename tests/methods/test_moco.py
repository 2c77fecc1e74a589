import pytest
import torch
from torch import Tensor

from recon.methods import MGDA, MoCo
from recon.methods.solvers.simplex import nearest_on_simplex_on_device


def normal(seed: int, tasks: int = 3) -> Tensor:
    return torch.randn(tasks, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_equals_the_papers_recursion() -> None:
    beta, gamma, rho = 0.7, 0.5, 0.3
    method = MoCo(beta=beta, gamma=gamma, rho=rho).double()
    tracked, weights = torch.zeros(3, 20, dtype=torch.float64), torch.full((3,), 1 / 3, dtype=torch.float64)
    for step in range(1, 10):
        jacobian = normal(step)
        tracked = tracked - beta / step**0.5 * (tracked - jacobian)
        slope = (tracked @ tracked.T + rho * torch.eye(3, dtype=torch.float64)) @ weights
        weights = nearest_on_simplex_on_device(weights - gamma / step**0.5 * slope)
        update = method.combine(jacobian)
        torch.testing.assert_close(update, weights @ tracked, rtol=1e-6, atol=1e-6)
    assert weights.std() > 0.05


def test_finds_the_shortest_combination_of_gradients_that_stay() -> None:
    jacobian = normal(0) * torch.tensor([[1.0], [0.3], [0.2]], dtype=torch.float64)
    method = MoCo()
    for _ in range(3000):
        update = method.combine(jacobian)
    torch.testing.assert_close(update, MGDA().combine(jacobian), rtol=0, atol=1e-3)


@pytest.mark.parametrize(("factor", "settles"), [(0.95, True), (20.0, False)])
def test_weights_settle_below_the_stated_rate(factor: float, settles: bool) -> None:
    shortens = []
    for seed in range(5):
        jacobian = normal(seed)
        gamma = factor * 2 / float(torch.linalg.eigvalsh(jacobian @ jacobian.T)[-1])
        method = MoCo(beta=1.0, gamma=gamma)  # what it tracks is the gradients themselves from the first step
        lengths = torch.stack([jacobian.mean(0).norm(), *(method.combine(jacobian).norm() for _ in range(20))])
        shortens.append(bool((lengths.diff() <= 1e-12).all()))
    assert all(shortens) if settles else not any(shortens)


def test_tracked_gradients_average_the_noise_of_batches() -> None:
    mean, noise = normal(0), 3.0
    method = MoCo(beta=0.5, gamma=0.0)
    distances = []
    for step in range(1, 2001):
        batch = mean + noise * normal(step)
        method.combine(batch)
        distances.append(float((method.gradients - mean).norm()))
    assert sum(distances[-100:]) / 100 < 0.2 * float(noise * normal(1).norm())


def test_other_shared_parameters_need_a_new_method() -> None:
    method = MoCo()
    method.combine(torch.ones(2, 5))
    with pytest.raises(ValueError, match=r"MoCo\(.*\) tracks gradients of 5 parameters, got 6; create a new method"):
        method.combine(torch.ones(2, 6))


@pytest.mark.parametrize("options", [{"beta": 1.1}, {"gamma": -1}, {"rho": -1}])
def test_hyperparameters_out_of_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"moco: {next(iter(options))} must be"):
        MoCo(**options)
