import pytest
import torch

from recon.methods import Constant


def test_sums_the_gradients_unless_told_otherwise() -> None:
    jacobian = torch.randn(3, 10)
    torch.testing.assert_close(Constant().combine(jacobian), jacobian.sum(0))
    torch.testing.assert_close(Constant(factors=[0.5, 0, -2]).combine(jacobian), 0.5 * jacobian[0] - 2 * jacobian[2])


def test_factors_for_another_number_of_tasks_are_refused() -> None:
    with pytest.raises(ValueError, match="constant: factors holds 2 numbers for 3 tasks"):
        Constant(factors=[1, 2]).weights(torch.eye(3))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), "1", None])
def test_a_factor_that_is_no_number_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match=r"constant: factors\[1\] must be a finite number"):
        Constant(factors=[1.0, bad])
