import pytest
import torch
from torch import Tensor
from torchjd.aggregation import PCGrad as TorchjdPCGrad

from recon.methods import PCGrad
from recon.methods.solvers.orders import orders_of_others


def projected_sum(jacobian: Tensor, orders: Tensor) -> Tensor:
    """Algorithm 1 of the paper, on the gradients themselves."""
    total = torch.zeros_like(jacobian[0])
    for gradient, order in zip(jacobian, orders, strict=True):
        projected = gradient.clone()
        for other in order:
            overlap = projected @ jacobian[other]
            if overlap < 0:
                projected -= overlap / (jacobian[other] @ jacobian[other]) * jacobian[other]
        total += projected
    return total


@pytest.mark.parametrize("tasks", [2, 3, 5, 10])
@pytest.mark.parametrize("seed", range(5))
def test_equals_the_projections_of_the_gradients_themselves(tasks: int, seed: int) -> None:
    jacobian = torch.randn(tasks, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    orders = torch.from_numpy(orders_of_others(1, tasks, PCGrad(seed=seed).generator)[0])
    torch.testing.assert_close(PCGrad(seed=seed).combine(jacobian), projected_sum(jacobian, orders))


def test_equals_torchjd_for_two_tasks_where_no_order_is_drawn() -> None:
    for seed in range(20):
        jacobian = torch.randn(2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        torch.testing.assert_close(PCGrad().combine(jacobian), TorchjdPCGrad()(jacobian))


def test_gradients_without_conflict_are_summed() -> None:
    assert PCGrad().weights(torch.tensor([[1.0, 0.5, 0.0], [0.5, 2.0, 0.1], [0.0, 0.1, 3.0]])).tolist() == [1, 1, 1]


def test_zero_gradient_conflicts_with_none() -> None:
    jacobian = torch.tensor([[1.0, 0.0], [0.0, 0.0], [-1.0, 1.0]], dtype=torch.float64)
    torch.testing.assert_close(PCGrad().combine(jacobian), PCGrad().combine(jacobian[[0, 2]]))


def test_each_order_holds_all_other_tasks_and_every_order_comes_up() -> None:
    method, seen = PCGrad(), [set() for _ in range(4)]
    for _ in range(200):
        for task, order in enumerate(orders_of_others(1, 4, method.generator)[0].tolist()):
            assert sorted(order) == [other for other in range(4) if other != task]
            seen[task].add(tuple(order))
    assert [len(orders) for orders in seen] == [6, 6, 6, 6]


def test_orders_of_tasks_are_independent() -> None:
    method = PCGrad()
    pairs = {tuple(map(tuple, orders_of_others(1, 3, method.generator)[0, :2].tolist())) for _ in range(100)}
    assert len(pairs) == 4


def test_seed_decides_the_order() -> None:
    jacobian = torch.randn(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    gramian = jacobian @ jacobian.T
    assert torch.equal(PCGrad(seed=1).weights(gramian), PCGrad(seed=1).weights(gramian))
    assert not torch.equal(PCGrad(seed=1).weights(gramian), PCGrad(seed=2).weights(gramian))


def test_a_gradient_whose_square_has_vanished_opposes_none() -> None:
    gramian = torch.tensor([[0.0, -1e-20], [-1e-20, 4.0]], dtype=torch.float64)
    torch.testing.assert_close(PCGrad().weights(gramian), torch.tensor([1.0, 1.0], dtype=torch.float64))
