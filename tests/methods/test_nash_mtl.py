from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torchjd.aggregation import NashMTL as TorchjdNashMTL

import recon.methods.solvers.fairness
from recon.methods import FairGrad, NashMTL


def residual(jacobian: Tensor, weights: Tensor) -> float:
    """By how much a_i (G a)_i differ from each other, relative to their mean."""
    gains = weights * (jacobian @ (weights @ jacobian))
    return float((gains / gains.mean() - 1).abs().max())


def test_gains_are_inverse_to_the_weights(regular: Tensor) -> None:
    weights = NashMTL(max_norm=None).weights(regular @ regular.T)
    if weights.any():
        assert (weights > 0).all()
        assert residual(regular, weights) < 1e-8
    else:
        stationary = torch.linalg.matrix_rank(regular) < len(regular)
        assert stationary


@pytest.mark.parametrize("tasks", [2, 3, 5, 10, 40])
def test_norms_from_1e_10_to_1e15_cost_no_digits(tasks: int) -> None:
    jacobian = torch.randn(tasks, 100, generator=torch.Generator().manual_seed(tasks), dtype=torch.float64)
    norms = torch.logspace(-10, 15, tasks, dtype=torch.float64)
    weights = NashMTL(max_norm=None).weights(norms[:, None] * (jacobian @ jacobian.T) * norms)
    balanced = NashMTL(max_norm=None).weights(jacobian @ jacobian.T)
    ratio = weights * norms / balanced
    torch.testing.assert_close(ratio, ratio.mean().expand(tasks), rtol=1e-9, atol=0)


def test_two_tasks_weigh_inversely_to_their_norms() -> None:
    jacobian = torch.tensor([[1.0, 2.0, 0.0], [-3.0, 0.5, 1.0]], dtype=torch.float64)
    weights = NashMTL().weights(jacobian @ jacobian.T)
    assert (weights[0] * jacobian[0].norm()).item() == pytest.approx((weights[1] * jacobian[1].norm()).item())


def test_no_other_update_of_its_length_has_a_larger_product_of_gains() -> None:
    generator = torch.Generator().manual_seed(0)
    jacobian = torch.randn(4, 6, generator=generator, dtype=torch.float64)
    update = NashMTL().combine(jacobian)
    assert update.norm().item() == pytest.approx(1)  # the default limit
    others = update + 0.3 * torch.randn(20_000, 6, generator=generator, dtype=torch.float64)
    gains = others / others.norm(dim=1, keepdim=True) @ jacobian.T
    gains = gains[(gains > 0).all(1)]
    assert len(gains) > 1000
    assert gains.log().sum(1).max() <= (jacobian @ update).log().sum() + 1e-9


@pytest.mark.parametrize("size", [1e-8, 1e-3, 1.0, 1e6])
@pytest.mark.parametrize("tasks", [2, 3, 7])
def test_update_is_as_long_at_any_scale_of_the_gradients(tasks: int, size: float) -> None:
    jacobian = size * torch.randn(tasks, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert NashMTL(max_norm=None).combine(jacobian).norm().item() == pytest.approx(tasks**0.5)
    assert NashMTL().combine(jacobian).norm().item() == pytest.approx(1)
    assert NashMTL(max_norm=0.5).combine(jacobian).norm().item() == pytest.approx(0.5)
    assert NashMTL(max_norm=4.0).combine(jacobian).norm().item() == pytest.approx(tasks**0.5)


@pytest.mark.parametrize("size", [1e-2, 1.0, 1e2])
def test_without_a_limit_it_is_as_long_as_torchjds(size: float) -> None:
    """Right angles, where the published procedure converges: the weights are 1 / |g_i|."""
    jacobian = size * torch.diag(torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64))
    theirs = TorchjdNashMTL(n_tasks=3, max_norm=0.0, update_weights_every=1, optim_niter=20)
    ours = NashMTL(max_norm=None).combine(jacobian)
    torch.testing.assert_close(ours, torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close(theirs(jacobian), ours, rtol=1e-2, atol=0)


def test_without_a_limit_it_is_proportional_fairness() -> None:
    jacobian = torch.randn(4, 9, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    torch.testing.assert_close(NashMTL(max_norm=None).combine(jacobian), FairGrad(alpha=1.0).combine(jacobian))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("tasks", [2, 3, 5])
def test_torchjd_comes_near_and_stops_earlier(
    tasks: int, seed: int, same_direction: Callable[[Tensor, Tensor], bool]
) -> None:
    """Its convex-concave procedure ends at a residual of 1e-3, after 20 steps, or where ECOS
    fails.
    """
    jacobian = torch.randn(tasks, 12, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    theirs = TorchjdNashMTL(n_tasks=tasks, max_norm=1.0, update_weights_every=1, optim_niter=20)
    published = theirs.weighting(jacobian)
    ours = NashMTL().weights(jacobian @ jacobian.T)
    assert residual(jacobian, ours) < 1e-9
    assert residual(jacobian, ours) <= residual(jacobian, published)
    if residual(jacobian, published) < 1e-4:
        assert same_direction(ours @ jacobian, published @ jacobian)
        torch.testing.assert_close((ours @ jacobian).norm(), (published @ jacobian).norm())


def test_a_task_without_gradient_takes_no_part() -> None:
    jacobian = torch.randn(3, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    jacobian[1] = 0
    torch.testing.assert_close(NashMTL().combine(jacobian), NashMTL().combine(jacobian[[0, 2]]))


def test_nearly_opposed_gradients_are_solved_while_they_can_be_told_from_opposed_ones() -> None:
    for seed in range(50):
        distance = 10 ** (-seed / 5)
        jacobian = torch.randn(4, 50, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        jacobian[1] = -0.7 * jacobian[0] + distance * jacobian[1]
        weights = NashMTL(max_norm=None).weights(jacobian @ jacobian.T)
        if distance > 1e-4:
            assert residual(jacobian, weights) < 1e-6, seed
        elif distance < 1e-7:
            assert not weights.any(), seed
        in_float32 = NashMTL(max_norm=None).weights(jacobian.float() @ jacobian.float().T)
        if distance > 1e-2:
            assert residual(jacobian, in_float32) < 1e-1, seed


def test_a_solver_that_fails_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recon.methods.solvers.fairness, "_MAX_ITERATIONS", 1)
    jacobian = torch.randn(5, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with pytest.raises(RuntimeError, match="fair weights of 5 tasks were not found in 1 Newton iterations"):
        NashMTL().combine(jacobian)


@pytest.mark.parametrize("max_norm", [-1.0, float("nan"), "1"])
def test_a_limit_out_of_range_is_refused(max_norm: float) -> None:
    with pytest.raises(ValueError, match="nash_mtl: max_norm must be a finite number >= 0, got"):
        NashMTL(max_norm=max_norm)
