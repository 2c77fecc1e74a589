import pytest
import torch
from torch import Tensor

from recon.methods import GradOPS, PCGrad


def jacobian_of(seed: int, tasks: int, parameters: int = 12) -> Tensor:
    return torch.randn(tasks, parameters, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_gram_schmidt(jacobian: Tensor) -> Tensor:
    """The projected gradients by the paper's algorithm, on the gradients themselves."""
    projected = []
    for index, gradient in enumerate(jacobian):
        others = torch.cat([jacobian[:index], jacobian[index + 1 :]])
        if (others @ gradient < 0).any():
            basis: list[Tensor] = []
            for other in others:
                rest = other - sum((other @ u) * u for u in basis)
                basis.append(rest / rest.norm())
            gradient = gradient - sum((gradient @ u) * u for u in basis)
        projected.append(gradient)
    return torch.stack(projected)


@pytest.mark.parametrize("tasks", [2, 3, 5, 10])
@pytest.mark.parametrize("alpha", [0.0, 2.0, -3.0])
def test_follows_the_papers_algorithm(tasks: int, alpha: float) -> None:
    for seed in range(10):
        jacobian = jacobian_of(seed, tasks)
        projected = by_gram_schmidt(jacobian)
        ratios = (jacobian @ projected.sum(0)) / jacobian.square().sum(1)
        weights = tasks * ratios**alpha / (ratios**alpha).sum()
        torch.testing.assert_close(GradOPS(alpha).combine(jacobian), weights @ projected, rtol=1e-6, atol=1e-8)


def test_two_tasks_are_as_in_pcgrad() -> None:
    for seed in range(10):
        jacobian = jacobian_of(seed, 2)
        torch.testing.assert_close(GradOPS().combine(jacobian), PCGrad().combine(jacobian))


def test_gradients_without_conflict_are_summed() -> None:
    jacobian = jacobian_of(0, 4).abs()
    torch.testing.assert_close(GradOPS().combine(jacobian), jacobian.sum(0))


def test_conflict_in_the_span_of_the_others_leaves_nothing() -> None:
    jacobian = torch.tensor([[1.0, 0.0, 0.0], [-1.0, 1.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 2.0]])
    for dtype in (torch.float32, torch.float64):
        update = GradOPS().combine(jacobian.to(dtype))
        torch.testing.assert_close(update, jacobian[2:].sum(0).to(dtype))


def test_alpha_shifts_the_balance() -> None:
    jacobian = torch.diag(torch.tensor([1.0, 2.0, 4.0]))
    jacobian[0, 1] = 1.0  # the second task serves the first
    plain, favoured = (GradOPS(alpha).combine(jacobian) for alpha in (0.0, 2.0))
    assert favoured[0] / favoured[2] > 1.5 * plain[0] / plain[2]


def test_an_alpha_that_is_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match="gradops: alpha must be a finite number, got nan"):
        GradOPS(float("nan"))
