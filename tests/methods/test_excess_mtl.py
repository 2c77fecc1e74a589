import pytest
import torch
import torchjd.aggregation
from torch import Tensor

from recon.methods import ExcessMTL


def normal(seed: int, tasks: int) -> Tensor:
    jacobian = torch.randn(tasks, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return jacobian * torch.linspace(0.1, 3, tasks, dtype=torch.float64)[:, None]


@pytest.mark.parametrize("tasks", [2, 3, 5, 10, 40])
@pytest.mark.parametrize("warmup", [1, 3])
def test_equals_torchjds_but_for_its_constants(tasks: int, warmup: int) -> None:
    ours = ExcessMTL(step_size=0.5, warmup_steps=warmup)
    theirs = torchjd.aggregation.ExcessMTL(robust_step_size=0.5, n_warmup_steps=warmup)
    for seed in range(6):
        jacobian = normal(seed, tasks)
        torch.testing.assert_close(ours.combine(jacobian), theirs(jacobian), rtol=1e-4, atol=1e-5)


def test_equals_torchjds_on_regular_jacobians(regular: Tensor) -> None:
    unit = regular / regular.abs().max()  # its constant under the root has the unit of gradients
    ours, theirs = ExcessMTL(step_size=0.5), torchjd.aggregation.ExcessMTL(robust_step_size=0.5, n_warmup_steps=1)
    for seed in range(4):
        jacobian = unit * (1 + 0.3 * torch.rand(len(unit), 1, generator=torch.Generator().manual_seed(seed)).double())
        torch.testing.assert_close(ours.combine(jacobian), theirs(jacobian), rtol=1e-4, atol=1e-5)


def test_equals_the_papers_recursion_coordinate_by_coordinate() -> None:
    method, squares, weights, first = ExcessMTL(step_size=0.3), torch.zeros(2, 3).double(), torch.ones(2) / 2, None
    for seed in range(4):
        jacobian = normal(seed, 2)[:, :3]
        squares += jacobian**2
        rows = zip(jacobian, squares, strict=True)
        risks = torch.tensor([sum(g * g / s.sqrt() for g, s in zip(*row, strict=True)) for row in rows])
        if first is None:
            first = risks
        else:
            weights = weights * torch.exp(0.3 * risks / first)
            weights = weights / weights.sum()
        torch.testing.assert_close(method.combine(jacobian), weights.double() @ jacobian)
    assert (weights[0] - weights[1]).abs() > 0.02


def test_gradients_in_another_unit_get_the_same_weights() -> None:
    plain, scaled = ExcessMTL(step_size=0.5), ExcessMTL(step_size=0.5)
    units = torch.tensor([[1e-12], [1.0], [1e12]], dtype=torch.float64)
    for seed in range(4):
        jacobian = normal(seed, 3)
        plain.combine(jacobian)
        scaled.combine(units * jacobian)
    torch.testing.assert_close(scaled.log_weights, plain.log_weights)


def test_a_task_without_gradient_in_the_first_steps_has_no_first_risk() -> None:
    method = ExcessMTL(step_size=0.5)
    method.combine(torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
    method.combine(torch.tensor([[1.0, 0.0], [0.0, 1e10]]))
    assert method.log_weights.isfinite().all()


def test_a_risk_that_explodes_takes_all_weight_and_stays_finite() -> None:
    method = ExcessMTL(step_size=1.0)
    method.combine(torch.tensor([[1.0, 0.0], [0.0, 1e-10]]))
    update = method.combine(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    assert update.tolist() == [0, 1]
    assert method.combine(torch.ones(2, 2)).isfinite().all()


def test_hyperparameters_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="excess_mtl: step_size must be a finite number > 0, got 0"):
        ExcessMTL(step_size=0)
    with pytest.raises(ValueError, match="excess_mtl: warmup_steps must be a whole number >= 1, got 0"):
        ExcessMTL(warmup_steps=0)
