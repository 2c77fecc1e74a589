import pytest
import scipy.optimize
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchjd.aggregation import MGDA as TorchjdMGDA

import recon.methods.solvers.gramian
from recon.methods import MGDA
from recon.methods.mgda import Normalization


def kkt_residual(jacobian: Tensor, weights: Tensor) -> float:
    """By how much the optimality conditions of the min-norm point fail, relative to what they
    compare.

    For the shortest vector x of the hull, g_i'x >= |x|^2 for all i, with equality wherever the
    weight is positive.
    """
    assert (weights >= 0).all()
    assert weights.sum().item() == pytest.approx(1, abs=1e-12)
    norms = jacobian.norm(dim=1)
    if (norms == 0).any():
        return (weights @ norms).item()
    unit, shortest = jacobian / norms[:, None], norms.min()
    x = weights @ (jacobian / shortest)
    excess = unit @ x - (x @ x) * shortest / norms
    share = weights * norms / (weights * norms).max()
    return torch.maximum(-excess, excess.abs() * share).max().item()


@settings(deadline=None)
@given(st.floats(1e-3, 1e3), st.floats(0, 3.1415), st.floats(-10, 15))
def test_two_tasks_follow_the_closed_form(ratio: float, angle: float, exponent: float) -> None:
    angle_ = torch.tensor(angle, dtype=torch.float64)
    first = torch.tensor([10.0**exponent, 0.0], dtype=torch.float64)
    second = ratio * 10.0**exponent * torch.stack([angle_.cos(), angle_.sin()])
    difference = second - first
    expected = (second @ difference / (difference @ difference)).clamp(0, 1) if difference.any() else None
    jacobian = torch.stack([first, second])
    weights = MGDA().weights(jacobian @ jacobian.T)
    if expected is not None:
        nearest = expected * first + (1 - expected) * second
        torch.testing.assert_close(weights @ jacobian, nearest, rtol=0, atol=1e-7 * float(jacobian.norm(dim=1).min()))


def test_optimality_conditions_hold(jacobian: Tensor) -> None:
    weights = MGDA().weights(jacobian @ jacobian.T)
    assert kkt_residual(jacobian, weights) < 1e-8


def test_a_small_gradient_keeps_its_digits_beside_a_huge_one() -> None:
    jacobian = torch.tensor([[1e-10, 0.0], [-6e14, 8e14]], dtype=torch.float64)
    weights = MGDA().weights(jacobian @ jacobian.T)
    # The shortest vector is the small gradient less its projection: 0.8 of its length, at right
    # angles to the huge one.
    assert weights[1].item() == pytest.approx(0.6 * 1e-10 / 1e15, rel=1e-12)
    torch.testing.assert_close(
        weights @ jacobian, torch.tensor([0.64e-10, 0.48e-10], dtype=torch.float64), rtol=1e-12, atol=0
    )


def test_update_is_harmless_to_every_task(jacobian: Tensor) -> None:
    update = MGDA().combine(jacobian)
    norms = jacobian.norm(dim=1)
    assert (jacobian @ update >= -1e-7 * norms * norms.min()).all()


def test_zero_gradient_takes_all_weight() -> None:
    jacobian = torch.tensor([[1.0, 2.0], [0.0, 0.0], [-1.0, 3.0], [0.0, 0.0]])
    assert MGDA().weights(jacobian @ jacobian.T).tolist() == [0, 0.5, 0, 0.5]


@pytest.mark.parametrize("normalization", ["none", "l2", "loss", "loss+"])
def test_normalization_decides_the_weights_of_the_original_gradients(normalization: str) -> None:
    jacobian = torch.randn(4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    jacobian *= torch.tensor([[1.0], [10.0], [0.1], [3.0]])
    losses = torch.tensor([0.3, 2.0, 5.0, 1.0], dtype=torch.float64)
    norms = jacobian.norm(dim=1)
    divisor = {"none": torch.ones(4), "l2": norms, "loss": losses, "loss+": losses * norms}[normalization]
    weights = MGDA(normalization=normalization).weights(jacobian @ jacobian.T, losses)
    assert kkt_residual(jacobian / divisor[:, None], weights) < 1e-10
    torch.testing.assert_close(MGDA(normalization=normalization).combine(jacobian, losses), weights @ jacobian)


@pytest.mark.parametrize("normalization", ["loss", "loss+"])
@pytest.mark.parametrize("losses", [None, torch.tensor([-1.0, 1.0])])
def test_loss_normalization_needs_positive_losses(normalization: str, losses: Tensor | None) -> None:
    with pytest.raises(ValueError, match=r"mgda: normalization='loss\+?' needs positive losses, got"):
        MGDA(normalization=normalization).weights(torch.eye(2), losses)


def test_unknown_normalization_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"mgda: normalization must be one of .*'l2'.*, got 'L1'"):
        MGDA(normalization="L1")


def test_a_solver_that_fails_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*args: object, **kwargs: object) -> None:
        raise RuntimeError("Maximum number of iterations reached.")

    monkeypatch.setattr(recon.methods.solvers.gramian, "nnls", exhausted)
    with pytest.raises(RuntimeError, match="non-negative least squares did not end in 60 iterations"):
        MGDA().weights(torch.eye(2))


def test_no_published_iteration_finds_a_shorter_vector(jacobian: Tensor) -> None:
    ours = MGDA().combine(jacobian).norm()
    frank_wolfe = TorchjdMGDA(epsilon=1e-5, max_iters=100)(jacobian)
    assert ours <= frank_wolfe.norm() + 1e-7 * jacobian.norm(dim=1).min()


def test_torchjd_comes_near_with_many_iterations() -> None:
    """Its Frank-Wolfe stops when a step is below epsilon, so it is near, not equal."""
    jacobian = torch.randn(5, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        TorchjdMGDA(epsilon=1e-9, max_iters=20000)(jacobian), MGDA().combine(jacobian), rtol=1e-3, atol=1e-3
    )


def test_a_general_solver_finds_no_shorter_vector() -> None:
    jacobian = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    gramian = (jacobian @ jacobian.T).numpy()
    general = scipy.optimize.minimize(
        lambda w: w @ gramian @ w,
        [1 / 6] * 6,
        jac=lambda w: 2 * gramian @ w,
        bounds=[(0, 1)] * 6,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
        tol=1e-14,
    )
    assert MGDA().combine(jacobian).square().sum().item() <= general.fun + 1e-12


def test_of_weights_with_the_same_shortest_combination_the_least_are_taken() -> None:
    """Unit gradients at 0, 90 and 180 degrees, and the first again: zero is half of the first
    (shared) and the last.
    """
    jacobian = torch.tensor([[1.0, 0.0], [0.0, 3.0], [-2.0, 0.0], [5.0, 0.0]], dtype=torch.float64)
    weights = MGDA("l2").weights(jacobian @ jacobian.T)
    torch.testing.assert_close(weights, torch.tensor([0.25, 0.0, 0.5, 0.25], dtype=torch.float64))


@pytest.mark.parametrize("normalization", ["l2", "loss", "loss+"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_order_does_not_matter_where_many_weights_solve_the_problem(
    normalization: Normalization, dtype: torch.dtype
) -> None:
    for seed in range(10):
        generator = torch.Generator().manual_seed(seed)
        left, right = torch.randn(2, 8, 3, generator=generator, dtype=torch.float64)
        jacobian = (left @ right.T).to(dtype)
        losses, order = 0.5 + torch.rand(8, generator=generator), torch.randperm(8, generator=generator)
        update = MGDA(normalization).combine(jacobian, losses)
        permuted = MGDA(normalization).combine(jacobian[order], losses[order])
        torch.testing.assert_close(permuted, update, rtol=0, atol=1e-5 * float(jacobian.norm(dim=1).max()))
