from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torchjd.aggregation import IMTLG as TorchjdIMTLG

from recon.methods import IMTLG


def normal(seed: int, tasks: int, parameters: int = 12) -> Tensor:
    return torch.randn(tasks, parameters, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def products(jacobian: Tensor, update: Tensor) -> Tensor:
    """Inner products of the update with the directions of the task gradients."""
    return jacobian @ update / jacobian.norm(dim=1)


@pytest.mark.parametrize("tasks", [2, 3, 5, 10])
@pytest.mark.parametrize("decades", [0, 8])
def test_every_direction_has_the_same_product_and_weights_sum_to_one(tasks: int, decades: int) -> None:
    for seed in range(5):
        jacobian = normal(seed, tasks) * torch.logspace(-decades, decades, tasks, dtype=torch.float64)[:, None]
        weights = IMTLG().weights(jacobian @ jacobian.T)
        gains = products(jacobian, weights @ jacobian)
        rounding = 1e-13 * float(weights.abs() @ jacobian.norm(dim=1))
        torch.testing.assert_close(gains, gains.mean().expand(tasks), rtol=1e-7, atol=rounding)
        assert weights.sum().item() == pytest.approx(1)


def test_equals_the_closed_form_of_the_paper() -> None:
    """Equation 6 there: α_2..K = g_1 U' (D U')^-1 with rows g_1 - g_i in D and u_1 - u_i in U."""
    jacobian = normal(1, 4)
    unit = jacobian / jacobian.norm(dim=1, keepdim=True)
    differences, directions = jacobian[:1] - jacobian[1:], unit[:1] - unit[1:]
    rest = jacobian[0] @ directions.T @ torch.linalg.inv(differences @ directions.T)
    expected = torch.cat([1 - rest.sum(0, keepdim=True), rest])
    torch.testing.assert_close(IMTLG().weights(jacobian @ jacobian.T), expected)


def test_torchjd_has_the_same_direction(regular: Tensor, same_direction: Callable[[Tensor, Tensor], bool]) -> None:
    if torch.linalg.matrix_rank(regular) == len(regular):
        scaled = regular / regular.norm(dim=1).max()  # it takes sums below 1e-12 for zero
        assert same_direction(IMTLG().combine(scaled), TorchjdIMTLG()(scaled))


def test_opposed_gradients_stop_it_where_a_pseudoinverse_serves_tasks_unequally() -> None:
    jacobian = torch.tensor([[1.0, 0.0], [-2.0, 0.0]], dtype=torch.float64)
    assert not IMTLG().combine(jacobian).any()
    theirs = products(jacobian, TorchjdIMTLG()(jacobian))
    assert (theirs[0] - theirs[1]).abs() > 1


def test_equal_gradients_share_their_weight() -> None:
    jacobian = normal(0, 2)[[0, 0, 1]]
    weights = IMTLG().weights(jacobian @ jacobian.T)
    assert weights[0].item() == pytest.approx(weights[1].item())
    torch.testing.assert_close(weights @ jacobian, IMTLG().combine(jacobian[1:]) * (weights @ jacobian).norm()
                               / IMTLG().combine(jacobian[1:]).norm())  # fmt: skip


def test_a_zero_gradient_is_left_out() -> None:
    jacobian = normal(0, 3)
    jacobian[1] = 0
    assert IMTLG().weights(jacobian @ jacobian.T)[1] == 0
    torch.testing.assert_close(IMTLG().combine(jacobian), IMTLG().combine(jacobian[[0, 2]]))


def test_weights_of_sum_zero_stop_it() -> None:
    # b solves C b = 1 with entries of both signs; norms are chosen so that Σ b_i / |g_i| = 0.
    jacobian = torch.tensor([[1.0, 0.0, 0.0], [0.9, 0.3, 0.1], [0.6, 0.7, -0.2]], dtype=torch.float64)
    unit = jacobian / jacobian.norm(dim=1, keepdim=True)
    b = torch.linalg.solve(unit @ unit.T, torch.ones(3, dtype=torch.float64))
    assert (b < 0).sum() == 1
    norms = torch.where(b < 0, -b / b[b > 0].sum(), 1.0)
    assert not IMTLG().combine(unit * norms[:, None]).any()
