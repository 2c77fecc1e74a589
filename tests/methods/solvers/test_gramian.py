import numpy as np
import pytest
import torch
from torch import Tensor

from recon.methods.solvers.gramian import gramian_of, nearest_combination, unit_factor, unit_root


@pytest.mark.parametrize("factor", [1e-30, 1.0, 1e30])
def test_gramian_of_a_float32_jacobian_is_exact_at_any_scale(factor: float) -> None:
    jacobian = factor * torch.randn(3, 1000, generator=torch.Generator().manual_seed(0))
    exact = jacobian.double() @ jacobian.double().T
    torch.testing.assert_close(gramian_of(jacobian), exact, rtol=1e-12, atol=0)


def test_gramian_of_more_columns_than_a_block_holds() -> None:
    jacobian = torch.ones(2, (1 << 18) + 3)
    assert gramian_of(jacobian).tolist() == [[(1 << 18) + 3] * 2] * 2


def test_unit_root_keeps_norms_and_angles(jacobian: Tensor) -> None:
    if not jacobian.any():
        jacobian = torch.ones_like(jacobian)
    jacobian = jacobian[jacobian.norm(dim=1) > 0]
    norms, directions = unit_root((jacobian @ jacobian.T).numpy())
    unit = jacobian / jacobian.norm(dim=1, keepdim=True)
    np.testing.assert_allclose(norms, jacobian.norm(dim=1).numpy(), rtol=1e-12)
    np.testing.assert_allclose(directions.T @ directions, (unit @ unit.T).numpy(), atol=1e-12)
    singular_values = torch.linalg.svdvals(torch.nn.functional.pad(unit, (0, len(unit))))  # one for each row
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), singular_values.flip(0).numpy(), atol=1e-7)


def test_nearest_combination_gives_the_shortest_vector_above_the_heights() -> None:
    columns, heights = np.eye(2), np.array([3.0, -1.0])
    u = nearest_combination(columns, heights)
    np.testing.assert_allclose(columns @ u / (1 - heights @ u), [3.0, 0.0])


def test_nearest_combination_certifies_that_nothing_is_above_the_heights() -> None:
    columns, heights = np.array([[1.0, -1.0]]), np.array([1.0, 1.0])
    u = nearest_combination(columns, heights)
    np.testing.assert_allclose(columns @ u, 0, atol=1e-15)
    assert heights @ u == pytest.approx(1)


def test_unit_factor_has_the_norms_and_angles_of_the_root(jacobian: Tensor) -> None:
    gramian = (jacobian @ jacobian.T).numpy()
    gramian = gramian[gramian.diagonal() > 0][:, gramian.diagonal() > 0]
    if not len(gramian):
        gramian = np.eye(2)
    (norms, factor), (same_norms, root) = unit_factor(gramian), unit_root(gramian)
    np.testing.assert_array_equal(norms, same_norms)
    np.testing.assert_allclose(factor.T @ factor, root.T @ root, atol=1e-12)


def test_directions_that_depend_on_others_lose_rank_in_the_unit_factor() -> None:
    jacobian = np.random.default_rng(0).normal(size=(3, 8))
    jacobian = np.vstack([jacobian, jacobian[0] + jacobian[1]])
    assert unit_factor(jacobian @ jacobian.T)[1].any(axis=1).sum() == 3
    assert unit_factor(jacobian[:3] @ jacobian[:3].T)[1].any(axis=1).sum() == 3
