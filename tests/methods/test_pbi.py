import pytest
import torch
import torchjd.scalarization

from recon.methods import PBI


@pytest.mark.parametrize("tasks", [2, 3, 5, 10, 40])
@pytest.mark.parametrize("theta", [0, 0.5, 5])
def test_weights_are_torchjds_up_to_the_factor_that_trains_equal_tasks_plainly(tasks: int, theta: float) -> None:
    generator = torch.Generator().manual_seed(tasks)
    losses, preference, ideal = torch.rand(3, tasks, dtype=torch.float64, generator=generator)
    leaves = losses.clone().requires_grad_()
    torchjd.scalarization.PBI(theta, preference, ideal)(leaves).backward()
    assert leaves.grad is not None
    method = PBI(theta=theta, preference=preference.tolist(), ideal=ideal.tolist())
    expected = leaves.grad * preference.norm() / preference.sum()
    torch.testing.assert_close(method.loss_weights(losses), expected, rtol=1e-8, atol=1e-8)


def test_losses_in_the_preferred_ratio_are_summed_by_it() -> None:
    """There the distance has no slope, and rounding must not become one."""
    preference = [0.1, 0.7, 0.2]
    for scale in (1.0, 1e-9, 1e9):
        losses = scale * torch.tensor(preference, dtype=torch.float64)
        direction = torch.tensor(preference, dtype=torch.float64)
        torch.testing.assert_close(PBI(preference=preference).loss_weights(losses), direction / direction.sum())
    assert PBI().loss_weights(torch.zeros(4)).tolist() == [0.25] * 4


def test_a_task_better_off_than_preferred_is_held_back() -> None:
    weights = PBI().loss_weights(torch.tensor([1.0, 3.0]))
    assert weights[0] < 0 < weights[1]


def test_hyperparameters_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="pbi: theta must be a finite number >= 0, got -1"):
        PBI(theta=-1)
    with pytest.raises(ValueError, match=r"pbi: ideal\[0\] must be"):
        PBI(ideal=[float("nan")])
