import pytest
import scipy.optimize
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchjd.aggregation import CAGrad as TorchjdCAGrad

import recon.methods.solvers.near_mean
from recon.methods import CAGrad

RADII = [1e-3, 0.4, 0.9, 2.0]


def kkt_residual(jacobian: Tensor, weights: Tensor, c: float) -> float:
    """By how much the optimality conditions of the paper's problem fail for unrescaled weights.

    Relative to the sizes compared. Not the code's own check: this one knows the gradients
    themselves. With d = g_0 + J'z: z >= 0; g_i·d >= level for all i, with equality wherever z is
    positive; |J'z| = c |g_0|, or less if the level is 0.
    """
    multipliers = weights - 1 / len(weights)
    norms, mean = jacobian.norm(dim=1), jacobian.mean(0)
    mean_norm = mean.norm()
    assert (multipliers >= 0).all()
    radius = (multipliers @ jacobian).norm() / (c * mean_norm)
    live = norms > 0
    gain = jacobian[live] @ (weights @ jacobian) / (norms[live] * mean_norm)
    share = multipliers[live] * norms[live]
    inverse = norms[live].min() / norms[live]
    stationary = radius < 1 - 1e-6
    level = torch.zeros(()) if stationary else (share @ gain) / (share @ inverse)
    excess = (gain - level * inverse) / (1 + c + level.abs() * inverse)
    residual = torch.maximum(-excess, excess.abs() * share / share.max().clamp(min=1e-300)).max()
    off_the_sphere = radius - 1 if stationary else (radius - 1).abs()
    above_a_zero_gradient = 0.0 if live.all() else level.item()
    return max(residual.item(), off_the_sphere.item(), above_a_zero_gradient)


def dual(gramian: Tensor, weights: Tensor, c: float) -> Tensor:
    radius = c * gramian.mean().sqrt()
    return weights @ gramian.mean(1) + radius * (weights @ gramian @ weights).clamp(min=0).sqrt()


@pytest.mark.parametrize("c", RADII)
def test_optimality_conditions_hold(jacobian: Tensor, c: float) -> None:
    weights = CAGrad(c=c, rescale=0).weights(jacobian @ jacobian.T)
    size = jacobian.norm(dim=1).max()
    if len(jacobian) == 1:
        assert weights.item() == 1
    elif jacobian.mean(0).norm() <= 1e-9 * size:  # a ball of no radius around zero
        assert (weights @ jacobian).norm() <= 1e-8 * size
    else:
        longest = float((weights * jacobian.norm(dim=1)).max() / jacobian.mean(0).norm())
        # A part of 1/m of a unit vector across the others is known to 1e-16 m² from inner products.
        assert kkt_residual(jacobian, weights, c) < 1e-8 + 3e-14 * longest**2


@pytest.mark.parametrize("c", RADII)
@pytest.mark.parametrize("seed", range(10))
def test_two_tasks_equal_a_bisection_of_the_dual(c: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    jacobian = torch.randn(2, 3, dtype=torch.float64, generator=generator) * torch.tensor([[1.0], [3.0]])
    gramian, mean = jacobian @ jacobian.T, jacobian.mean(0)
    direction = jacobian[0] - jacobian[1]

    def slope(share: float) -> float:
        combined = share * jacobian[0] + (1 - share) * jacobian[1]
        return (direction @ mean + c * mean.norm() * (direction @ combined) / combined.norm()).item()

    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    combined = low * jacobian[0] + (1 - low) * jacobian[1]
    expected = mean + c * mean.norm() * combined / combined.norm()
    torch.testing.assert_close(CAGrad(c=c, rescale=0).weights(gramian) @ jacobian, expected, rtol=1e-9, atol=1e-9)


def test_two_equally_long_gradients_are_bisected() -> None:
    """By symmetry g_w is along the mean, so the update is (1 + c) times the mean."""
    jacobian = torch.tensor([[1.0, 2.0], [-1.0, 2.0]], dtype=torch.float64)
    torch.testing.assert_close(CAGrad(c=0.4, rescale=0).combine(jacobian), 1.4 * jacobian.mean(0))


@pytest.mark.parametrize("tasks", [3, 5, 10])
@pytest.mark.parametrize("c", [0.4, 0.9])
def test_the_published_solver_finds_no_lower_dual(tasks: int, c: float) -> None:
    for seed in range(5):
        jacobian = torch.randn(tasks, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        gramian = jacobian @ jacobian.T
        multipliers = CAGrad(c=c, rescale=0).weights(gramian) - 1 / tasks
        ours = dual(gramian, multipliers / multipliers.sum(), c)
        published = scipy.optimize.minimize(
            lambda w, gramian=gramian: dual(gramian, torch.from_numpy(w), c).item(),
            [1 / tasks] * tasks,
            bounds=[(0, 1)] * tasks,
            constraints={"type": "eq", "fun": lambda w: 1 - w.sum()},
        )
        assert ours.item() <= published.fun + 1e-10
        assert ours.item() == pytest.approx(published.fun, rel=1e-3)


@pytest.mark.parametrize("c", [0.4, 0.9])
def test_no_other_update_in_the_ball_serves_the_worst_served_task_better(c: float) -> None:
    generator = torch.Generator().manual_seed(0)
    jacobian = torch.randn(4, 3, dtype=torch.float64, generator=generator)
    mean, update = jacobian.mean(0), CAGrad(c=c, rescale=0).combine(jacobian)
    others = torch.randn(20_000, 3, dtype=torch.float64, generator=generator)
    others = mean + c * mean.norm() * others / others.norm(dim=1, keepdim=True)
    assert (others @ jacobian.T).min(dim=1).values.max() <= (jacobian @ update).min() + 1e-9
    torch.testing.assert_close((update - mean).norm(), c * mean.norm())


def test_no_radius_gives_the_mean(jacobian: Tensor) -> None:
    for rescale in (0, 1, 2):
        torch.testing.assert_close(CAGrad(c=0, rescale=rescale).combine(jacobian), jacobian.mean(0))


def test_rescale_divides_the_update() -> None:
    jacobian = torch.randn(3, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    plain = CAGrad(c=0.4, rescale=0).combine(jacobian)
    torch.testing.assert_close(CAGrad(c=0.4, rescale=1).combine(jacobian) * (1 + 0.4**2), plain)
    torch.testing.assert_close(CAGrad(c=0.4, rescale=2).combine(jacobian) * (1 + 0.4), plain)


def test_identical_gradients_are_stretched_by_the_radius() -> None:
    gradient = torch.randn(20, dtype=torch.float64)
    torch.testing.assert_close(CAGrad(c=0.4, rescale=2).combine(gradient.repeat(3, 1)), gradient)


def test_where_the_dual_is_least_at_zero_the_nearest_solution_to_the_mean_is_taken() -> None:
    # Opposite gradients allow no movement along the first axis; the mean has some, which the ball
    # lets us take away.
    jacobian = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.3, 1.0]], dtype=torch.float64)
    torch.testing.assert_close(CAGrad(c=0.5, rescale=0).combine(jacobian), torch.tensor([0.0, 1 / 3]).double())


def test_opposite_gradients_leave_a_mean_that_harms_no_task_alone() -> None:
    jacobian = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    torch.testing.assert_close(CAGrad(c=0.5, rescale=0).combine(jacobian), jacobian.mean(0))


def test_zero_gradient_leaves_a_mean_that_harms_no_task_alone() -> None:
    jacobian = torch.tensor([[1.0, 0.5], [0.0, 0.0], [0.5, 1.0]], dtype=torch.float64)
    torch.testing.assert_close(CAGrad(c=0.5, rescale=0).combine(jacobian), jacobian.mean(0))


@pytest.mark.parametrize("c", [1.0, 1.5])
def test_a_wide_ball_stops_at_a_stationary_point(c: float) -> None:
    jacobian = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    jacobian[3] = -(torch.tensor([0.2, 0.5, 1.0], dtype=torch.float64) @ jacobian[:3])
    assert CAGrad(c=c, rescale=0).combine(jacobian).abs().max() < 1e-8


@settings(deadline=None)
@given(st.integers(2, 10), st.floats(-16, -2), st.floats(0.01, 5), st.integers(0, 10_000))
def test_nearly_opposite_gradients_stay_within_the_ball(tasks: int, exponent: float, c: float, seed: int) -> None:
    """Between stationary and not, where the Gramian cannot tell which: still finite, still in the
    ball.
    """
    jacobian = torch.randn(tasks, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    jacobian[1] = -0.7 * jacobian[0] + 10**exponent * jacobian[1]
    weights = CAGrad(c=c, rescale=0).weights(jacobian @ jacobian.T)
    mean = jacobian.mean(0)
    deviation = weights @ jacobian - mean
    rounding = 1e-14 * (weights @ jacobian.norm(dim=1)).square()  # of the square of a length known by its square only
    assert deviation.square().sum() <= (c * mean.norm()).square() * (1 + 1e-6) + rounding


@pytest.mark.parametrize("c", [1e-300, 1e-17, 1e-12])
def test_a_vanishing_radius_is_the_mean(c: float) -> None:
    jacobian = torch.randn(3, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(CAGrad(c=c).combine(jacobian), jacobian.mean(0))


def test_torchjd_gives_nearly_the_same_update() -> None:
    """Nearly: it normalises the Gramian, and treats a g_w shorter than norm_eps as zero; it has no
    rescaling.
    """
    for seed in range(5):
        jacobian = torch.randn(4, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        theirs = TorchjdCAGrad(c=0.4, norm_eps=1e-9)(jacobian)
        torch.testing.assert_close(CAGrad(c=0.4, rescale=0).combine(jacobian), theirs, rtol=1e-4, atol=1e-4)


def test_a_dual_that_is_not_solved_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recon.methods.solvers.near_mean, "_MAX_ITERATIONS", 1)
    jacobian = torch.randn(5, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with pytest.raises(RuntimeError, match=r"cagrad: the dual is solved to a relative KKT residual of .*, not 1e-08"):
        CAGrad().combine(jacobian)


@pytest.mark.parametrize("c", [-0.1, float("nan"), float("inf"), "0.4"])
def test_a_radius_out_of_range_is_refused(c: float) -> None:
    with pytest.raises(ValueError, match="cagrad: c must be a finite number >= 0, got"):
        CAGrad(c=c)


@pytest.mark.parametrize("rescale", [3, -1, "1", None, 1.0, True])
def test_an_unknown_rescaling_is_refused(rescale: int) -> None:
    with pytest.raises(ValueError, match="cagrad: rescale must be 0, 1 or 2, got"):
        CAGrad(rescale=rescale)
