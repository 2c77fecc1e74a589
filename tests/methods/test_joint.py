import pytest
import torch

from recon.methods import Joint


def test_sums_losses_and_gradients() -> None:
    jacobian = torch.randn(3, 10)
    assert Joint().objective(torch.tensor([1.0, 2.0, 4.0])).item() == 7
    torch.testing.assert_close(Joint().combine(jacobian), jacobian.sum(0))


def test_fixed_weights_multiply_the_tasks_in_order() -> None:
    method, losses = Joint(weights=[0.5, 0, 2]), torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64, requires_grad=True)
    jacobian = torch.randn(3, 10)
    assert method.objective(losses).item() == 8.5
    torch.testing.assert_close(method.combine(jacobian), 0.5 * jacobian[0] + 2 * jacobian[2])
    method.objective(losses).backward()
    assert losses.grad is not None
    assert losses.grad.tolist() == [0.5, 0, 2]


def test_weights_keep_the_precision_of_the_losses() -> None:
    assert Joint(weights=[0.1]).loss_weights(torch.ones(1, dtype=torch.float64)).item() == 0.1


def test_weights_of_another_number_of_tasks_are_refused() -> None:
    with pytest.raises(ValueError, match="joint: weights holds 2 numbers for 3 tasks"):
        Joint(weights=[1, 2]).loss_weights(torch.ones(3))


@pytest.mark.parametrize("bad", [-1.0, float("nan"), float("inf"), "1", None, True])
def test_a_weight_that_is_no_number_from_zero_up_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match=r"joint: weights\[1\] must be a finite number >= 0, got"):
        Joint(weights=[1.0, bad])
