from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torchjd.aggregation import FairGrad as TorchjdFairGrad

from recon.methods import FairGrad, NashMTL

ALPHAS = [0.5, 1.0, 2.0, 10.0]


def residual(jacobian: Tensor, weights: Tensor, alpha: float) -> float:
    """By how much the equations G a = a^(-1/α) fail, relative to their right-hand sides."""
    return float((jacobian @ (weights @ jacobian) * weights ** (1 / alpha) - 1).abs().max())


@pytest.mark.parametrize("alpha", ALPHAS)
def test_equations_hold(regular: Tensor, alpha: float) -> None:
    weights = FairGrad(alpha).weights(regular @ regular.T)
    if torch.linalg.matrix_rank(regular) == len(regular):
        assert (weights > 0).all()
        assert residual(regular, weights, alpha) < 1e-7


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("tasks", [2, 3, 5, 10, 40])
def test_well_conditioned_equations_hold_to_1e_10(tasks: int, alpha: float) -> None:
    for seed in range(5):
        jacobian = torch.randn(tasks, 200, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        jacobian *= 10 ** (torch.rand(tasks, 1, dtype=torch.float64) - 0.5)
        assert residual(jacobian, FairGrad(alpha).weights(jacobian @ jacobian.T), alpha) < 2e-10


@pytest.mark.parametrize("alpha", [1.0, 2.0])
@pytest.mark.parametrize("tasks", [2, 3, 5, 10, 40])
def test_torchjd_has_the_same_direction_and_a_larger_residual(
    tasks: int, alpha: float, same_direction: Callable[[Tensor, Tensor], bool]
) -> None:
    for seed in range(3):
        jacobian = torch.randn(tasks, 60, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        ours = FairGrad(alpha).weights(jacobian @ jacobian.T)
        theirs = TorchjdFairGrad(alpha=alpha).gramian_weighting(jacobian @ jacobian.T)
        if residual(jacobian, theirs, alpha) < 1e-4:  # SciPy's least squares stop anywhere for some
            assert same_direction(ours @ jacobian, theirs @ jacobian)
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-6)
        assert residual(jacobian, ours, alpha) <= max(1e-10, residual(jacobian, theirs, alpha))


def test_proportional_fairness_is_nash_mtls_direction(regular: Tensor) -> None:
    fair, nash = FairGrad().combine(regular), NashMTL().combine(regular)
    torch.testing.assert_close(fair * nash.norm(), nash * fair.norm())


def test_opposed_gradients_have_no_fair_update_though_rounding_leaves_one() -> None:
    for seed in range(300, 400):
        jacobian = torch.randn(3, 12, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        jacobian[1] = -0.5 * jacobian[0]
        assert not FairGrad(0.5).combine(jacobian).any(), seed


def test_large_alpha_serves_the_worst_served_task_better() -> None:
    jacobian = torch.randn(4, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    worst = []
    for alpha in (1.0, 2.0, 5.0, 10.0):
        update = FairGrad(alpha).combine(jacobian)
        worst.append(((jacobian @ update).min() / update.norm()).item())
    assert worst == sorted(worst)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_a_task_without_gradient_takes_no_part(alpha: float) -> None:
    jacobian = torch.randn(3, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    jacobian[1] = 0
    torch.testing.assert_close(FairGrad(alpha).combine(jacobian), FairGrad(alpha).combine(jacobian[[0, 2]]))


@pytest.mark.parametrize("alpha", [0.0, -1.0, 11.0, float("inf"), None])
def test_alpha_out_of_range_is_refused(alpha: float) -> None:
    with pytest.raises(ValueError, match=r"fairgrad: alpha must be a number in \[0.5, 10\], got"):
        FairGrad(alpha)
