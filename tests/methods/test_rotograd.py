import pytest
import torch
from torch import Tensor

from recon.methods import RotoGrad, create_method


def normal(seed: int, tasks: int = 3) -> Tensor:
    return torch.randn(tasks, 12, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def published(jacobian: Tensor, first: Tensor) -> Tensor:
    """Algorithm 1 of the paper, by its formulas."""
    norms = jacobian.norm(dim=1)
    ratios = norms / first.norm(dim=1)
    length = sum(ratio / ratios.sum() * norm for ratio, norm in zip(ratios, norms, strict=True))
    return sum(length * gradient / gradient.norm() for gradient in jacobian)


def test_updates_are_those_of_the_paper_before_and_after_the_burn_in() -> None:
    method = RotoGrad(burn_in=3)
    jacobians = [(1 + step) * normal(step) for step in range(6)]
    for step, jacobian in enumerate(jacobians):
        expected = published(jacobian, jacobians[0 if step < 3 else 3])
        torch.testing.assert_close(method.combine(jacobian), expected)


@pytest.mark.parametrize("name", ["mgda", "pcgrad", "aligned_mtl", "nash_mtl"])
def test_any_gramian_method_combines_gradients_of_equal_length(name: str) -> None:
    method, inner, jacobian = RotoGrad(name), create_method(name), normal(0)
    equal = jacobian / jacobian.norm(dim=1, keepdim=True) * jacobian.norm(dim=1).mean()
    torch.testing.assert_close(method.combine(jacobian), inner.combine(equal))


def test_hyperparameters_losses_and_scale_are_those_of_the_wrapped_method() -> None:
    method = RotoGrad("gradnorm", method_options={"alpha": 0.5})
    assert method.scale == "sum"
    assert RotoGrad("mgda").scale == "mean"
    with pytest.raises(ValueError, match="gradnorm: compares how fast the losses fall; pass losses"):
        method.combine(normal(0))


def test_a_zero_gradient_is_no_first_gradient_and_changes_no_other() -> None:
    method, jacobian = RotoGrad(), normal(0)
    jacobian[1] = 0
    torch.testing.assert_close(method.combine(jacobian), published(jacobian[[0, 2]], jacobian[[0, 2]]))
    assert method.steps.tolist() == [1, 0, 1]
    assert method.first_norms[1] == 0


def test_a_task_that_comes_later_starts_with_its_own_first_gradient() -> None:
    method, first, second = RotoGrad(burn_in=100), normal(0), 5 * normal(1)
    method.bind(3)
    with method.among([0, 2]):
        method.combine(first[[0, 2]])
    torch.testing.assert_close(method.combine(second), published(second, torch.stack([first[0], second[1], first[2]])))


@pytest.mark.parametrize("burn_in", [-1, 2.5, True])
def test_a_burn_in_out_of_range_is_refused(burn_in: int) -> None:
    with pytest.raises(ValueError, match="rotograd: burn_in must be a whole number >= 0, got"):
        RotoGrad(burn_in=burn_in)


@pytest.mark.parametrize("name", ["graddrop", "uw"])
def test_methods_without_weights_by_the_gramian_are_told_where_to_go(name: str) -> None:
    with pytest.raises(ValueError, match=f"RotoGrad wraps methods that weight task gradients .* {name!r} does not"):
        RotoGrad(name)
