from typing import Any

import pytest
import scipy.optimize
import torch
from torch import Tensor

from recon.methods import MGDA, ConicGrad

COSINES = [0.1, 0.5, 0.9, 0.99]


def jacobian_of(seed: int, tasks: int, parameters: int = 9) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    lengths = 3 * torch.rand(tasks, 1, dtype=torch.float64, generator=generator)
    return lengths * torch.randn(tasks, parameters, dtype=torch.float64, generator=generator)


def cosine(a: Tensor, b: Tensor) -> float:
    return float(a @ b / (a.norm() * b.norm()))


def best_worst_gain(jacobian: Tensor, c: float) -> float:
    """The largest min_i g_i·d in the cone and the ball, by SLSQP on (d, gain)."""
    rows, centre = jacobian.numpy(), jacobian.mean(0).numpy()
    length = float((centre @ centre) ** 0.5)

    def slack(z: Any) -> Any:
        size = (z[:-1] @ z[:-1]) ** 0.5
        return [*(rows @ z[:-1] - z[-1]), centre @ z[:-1] - c * length * size, length - size]

    solved = scipy.optimize.minimize(
        lambda z: -z[-1],
        [*centre, 0.0],
        constraints={"type": "ineq", "fun": slack},
        options={"maxiter": 500, "ftol": 1e-12},
    )
    return float(solved.x[-1])


@pytest.mark.parametrize("tasks", [2, 3, 6])
@pytest.mark.parametrize("c", COSINES)
def test_a_solver_of_the_papers_problem_finds_the_same_worst_gain(tasks: int, c: float) -> None:
    compared = 0
    for seed in range(5):
        jacobian = jacobian_of(seed, tasks)
        update = ConicGrad(c).combine(jacobian)
        if (jacobian @ update).min() <= 0:  # the problem is not concave there
            continue
        assert float((jacobian @ update).min()) == pytest.approx(best_worst_gain(jacobian, c), abs=1e-6)
        compared += 1
    assert compared >= 2


@pytest.mark.parametrize("c", COSINES)
def test_the_update_lies_in_the_cone_and_is_as_long_as_the_mean(c: float) -> None:
    for seed in range(20):
        jacobian = jacobian_of(seed, 4)
        mean, update = jacobian.mean(0), ConicGrad(c).combine(jacobian)
        assert cosine(update, mean) >= c - 1e-9
        torch.testing.assert_close(update.norm(), mean.norm())


def test_a_wide_cone_gives_the_direction_of_mgda() -> None:
    for seed in range(10):
        jacobian = jacobian_of(seed, 3)
        shortest, mean = MGDA().combine(jacobian), jacobian.mean(0)
        update = ConicGrad(max(0.01, cosine(shortest, mean) - 1e-3)).combine(jacobian)
        torch.testing.assert_close(update, shortest * mean.norm() / shortest.norm())


def test_the_cone_of_one_direction_is_the_mean(jacobian: Tensor) -> None:
    torch.testing.assert_close(ConicGrad(1).combine(jacobian), jacobian.mean(0))


def test_a_narrow_cone_gives_nearly_the_mean() -> None:
    jacobian = jacobian_of(0, 4)
    assert cosine(ConicGrad(1 - 1e-10).combine(jacobian), jacobian.mean(0)) > 1 - 1e-9


def test_two_tasks_out_of_reach_are_served_on_the_surface() -> None:
    """The mean is (1.5, 1); the worst task gains most where the mean is turned towards it."""
    jacobian = torch.tensor([[4.0, 0.0], [-1.0, 2.0]], dtype=torch.float64)
    mean = jacobian.mean(0)
    across = torch.tensor([-1.0, 1.5], dtype=torch.float64) / mean.norm()
    expected = 0.9 * mean + (1 - 0.9**2) ** 0.5 * mean.norm() * across
    torch.testing.assert_close(ConicGrad(0.9).combine(jacobian), expected)


def test_a_cone_that_harms_some_task_harms_it_least_for_its_gain_of_the_mean() -> None:
    jacobian = torch.tensor([[9.0, 0.0], [-1.0, 0.5]], dtype=torch.float64)  # no direction of the cone serves both
    mean = jacobian.mean(0)
    update = ConicGrad(0.9).combine(jacobian)
    angles = torch.linspace(-1, 1, 2001, dtype=torch.float64) * torch.tensor(0.9, dtype=torch.float64).arccos()
    turned = torch.stack(
        [angles.cos() * mean[0] - angles.sin() * mean[1], angles.sin() * mean[0] + angles.cos() * mean[1]], dim=1
    )
    worst = (turned @ jacobian.T).min(dim=1).values / (turned @ mean)
    assert worst.max() < 0
    assert float((jacobian @ update).min() / (update @ mean)) == pytest.approx(float(worst.max()), rel=1e-3)


def test_a_task_without_a_gradient_leaves_the_nearest_harmless_direction() -> None:
    jacobian = torch.tensor([[4.0, 0.0], [-1.0, 0.5], [0.0, 0.0]], dtype=torch.float64)
    update = ConicGrad(0.1).combine(jacobian)
    torch.testing.assert_close(update @ jacobian[1], torch.zeros((), dtype=torch.float64), atol=1e-7, rtol=0)
    torch.testing.assert_close(update.norm(), jacobian.mean(0).norm())


@pytest.mark.parametrize("c", [0.0, 1.1, float("nan"), "0.5"])
def test_a_cosine_out_of_range_is_refused(c: float) -> None:
    with pytest.raises(ValueError, match=r"conicgrad: c must be a number in \[0.01, 1\], got"):
        ConicGrad(c)
