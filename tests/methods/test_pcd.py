import cvxpy as cp
import numpy as np
import pytest
import torch
from torch import Tensor
from torchjd.aggregation import PCD as TorchjdPCD

from recon.methods import PCD


def jacobian_of(seed: int, tasks: int = 4, parameters: int = 12) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    jacobian = torch.randn(tasks, parameters, generator=generator, dtype=torch.float64)
    return jacobian * 10 ** torch.linspace(-1, 1, tasks, dtype=torch.float64)[:, None]


@pytest.mark.parametrize("tasks", [1, 2, 3, 5, 10])
@pytest.mark.parametrize("tau", [0.0, 0.02, 0.5, 1.0])
def test_torchjd_without_its_constant_makes_the_same_steps(tasks: int, tau: float) -> None:
    ours, theirs = PCD(tau=tau, beta=0.9), TorchjdPCD(tau=tau, beta=0.9, eps=0.0)
    for seed in range(10):
        jacobian = jacobian_of(seed, tasks)
        torch.testing.assert_close(ours.combine(jacobian), theirs(jacobian), rtol=1e-6, atol=1e-7)


def test_solves_the_papers_problem_in_the_parameters() -> None:
    """The reference solves it by an interior-point method, for d itself."""
    method, beta, average = PCD(tau=0.3, beta=0.8), 0.8, np.zeros(3)
    for step in range(1, 6):
        jacobian = jacobian_of(step, tasks=3, parameters=5).numpy()
        average = beta * average + (1 - beta) * (jacobian**2).sum(axis=1)
        normalised = jacobian / np.sqrt(average / (1 - beta**step))[:, None]
        d = cp.Variable(5)
        constraints = [g @ d >= 0.3 * (g @ g) for g in normalised[1:]]
        cp.Problem(cp.Minimize(cp.sum_squares(d - normalised[0])), constraints).solve()
        expected = d.value / np.linalg.norm(d.value) * np.linalg.norm(jacobian[0])
        np.testing.assert_allclose(method.combine(torch.from_numpy(jacobian)).numpy(), expected, atol=1e-4)


def test_every_auxiliary_task_gets_its_part() -> None:
    for seed in range(20):
        jacobian = jacobian_of(seed)
        weights = PCD(tau=0.1).weights(jacobian @ jacobian.T)
        direction = weights / weights[0] / jacobian[0].norm() @ jacobian
        assert (jacobian[1:] @ direction >= (0.1 - 1e-9) * jacobian[1:].norm(dim=1)).all()


def test_another_task_may_be_the_primary_one() -> None:
    jacobian = jacobian_of(0)
    torch.testing.assert_close(PCD(primary=3).combine(jacobian), PCD().combine(jacobian[[3, 0, 1, 2]]))


def test_opposed_auxiliary_tasks_leave_the_primary_gradient() -> None:
    jacobian = torch.tensor([[1.0, 2.0], [0.0, 1.0], [0.0, -3.0]], dtype=torch.float64)
    for dtype in (torch.float32, torch.float64):
        torch.testing.assert_close(PCD().combine(jacobian.to(dtype)), jacobian[0].to(dtype))


def test_a_gradient_that_cancels_gives_no_update() -> None:
    assert not PCD(tau=0.0).combine(torch.tensor([[1.0, 2.0], [-2.0, -4.0]])).any()


def test_without_gradient_of_the_primary_task_there_is_no_update() -> None:
    method = PCD(primary=1)
    assert not method.combine(torch.tensor([[1.0, 2.0], [0.0, 0.0], [1.0, 0.0]])).any()
    with method.among([0, 2]):
        assert not method.combine(torch.eye(2)).any()
    with method.among([1, 2]):
        assert method.combine(torch.eye(2))[0] > 0.9


def test_a_primary_task_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="pcd: primary must be the index of one of 2 tasks, got 2"):
        PCD(primary=2).combine(torch.eye(2))
    with pytest.raises(ValueError, match="pcd: primary must be a whole number >= 0, got -1"):
        PCD(primary=-1)
    with pytest.raises(ValueError, match=r"pcd: tau must be a number in \[0, 1\], got 2"):
        PCD(tau=2)
