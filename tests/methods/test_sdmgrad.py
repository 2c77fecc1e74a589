import io

import pytest
import torch
from torch import Tensor
from torchjd.aggregation import SDMGradWeighting

from recon.methods import MGDA, SDMGrad


def normal(seed: int, tasks: int, parameters: int = 12) -> Tensor:
    return torch.randn(tasks, parameters, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("tasks", [2, 3, 5, 10, 40])
def test_equals_torchjd_step_for_step(tasks: int) -> None:
    ours, theirs = SDMGrad(lr=1.0), SDMGradWeighting(lr=1.0)
    for seed in range(4):
        gramian = normal(seed, tasks) @ normal(seed, tasks).T
        torch.testing.assert_close(ours.weights(gramian), theirs(gramian), rtol=1e-6, atol=1e-7)


def test_without_preference_it_comes_to_the_shortest_combination() -> None:
    jacobian = normal(0, 4)
    method = SDMGrad(lambda_=0.0, lr=0.2, iterations=2000)
    torch.testing.assert_close(method.combine(jacobian), MGDA().combine(jacobian), rtol=1e-6, atol=1e-6)


def test_a_strong_pull_comes_to_the_preferred_combination() -> None:
    jacobian = normal(0, 3)
    torch.testing.assert_close(SDMGrad(lambda_=1e9).combine(jacobian), jacobian.mean(0))
    torch.testing.assert_close(SDMGrad(lambda_=1e9, preference=[0, 1, 0]).combine(jacobian), jacobian[1])


def objective(gramian: Tensor, weights: Tensor, lambda_: float = 0.3) -> float:
    """What SDMGrad minimises, of the divided Gramian, for equal preferences."""
    divided = gramian / gramian.diagonal().sqrt().mean() ** 2
    return float(weights @ divided @ (weights / 2 + lambda_ / len(weights)))


@pytest.mark.parametrize("tasks", [2, 3, 5, 10])
def test_at_half_the_objective_comes_to_its_minimum(tasks: int) -> None:
    for seed in range(10):
        gramian = normal(seed, tasks) @ normal(seed, tasks).T
        method, exact = SDMGrad(lr=0.5), SDMGrad(lr=0.1, iterations=5000)
        for _ in range(5):
            method.weights(gramian)
        exact.weights(gramian)
        least = objective(gramian, exact.simplex_weights)
        assert objective(gramian, method.simplex_weights) <= least + 1e-3


@pytest.mark.parametrize("tasks", [2, 3, 5, 10])
def test_at_the_published_learning_rate_weights_end_near_a_corner_and_mostly_above_equal_ones(tasks: int) -> None:
    worse, largest = 0, []
    for seed in range(20):
        method, gramian = SDMGrad(), normal(seed, tasks) @ normal(seed, tasks).T
        for _ in range(5):
            method.weights(gramian)
        weights = method.simplex_weights
        assert weights.isfinite().all()
        assert (weights >= 0).all()
        assert weights.sum().item() == pytest.approx(1)
        largest.append(weights.max().item())
        worse += objective(gramian, weights) > objective(gramian, torch.full_like(weights, 1 / tasks))
    assert worse > 10
    assert sorted(largest)[10] > 0.9


@pytest.mark.parametrize("momentum", [0.0, 0.5])
@pytest.mark.parametrize(("factor", "settles"), [(0.9, True), (1.2, False)])
def test_weights_settle_below_the_stated_learning_rate(momentum: float, factor: float, settles: bool) -> None:
    """For two tasks the largest eigenvalue has its eigenvector in the simplex if it is (1, -1) /
    sqrt(2).
    """
    gramian = torch.tensor([[1.0, -0.5], [-0.5, 1.0]], dtype=torch.float64)  # eigenvalue 1.5; at norms of 1
    method = SDMGrad(lr=factor * 2 * (1 + momentum) / 1.5, momentum=momentum, iterations=500)
    method.bind(2)
    method.simplex_weights = torch.tensor([0.51, 0.49], dtype=torch.float64)
    method.weights(gramian)
    assert ((method.simplex_weights - 0.5).abs().max() < 1e-6) == settles


def test_weights_go_on_from_the_last_step_also_after_a_checkpoint() -> None:
    jacobian, method = normal(0, 5), SDMGrad(lr=0.1, iterations=1)
    first = method.combine(jacobian)
    file = io.BytesIO()
    torch.save(method.state_dict(), file)
    second = method.combine(jacobian)
    assert not torch.equal(first, second)
    file.seek(0)
    resumed = SDMGrad(lr=0.1, iterations=1)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(resumed.combine(jacobian), second)


@pytest.mark.parametrize(
    ("option", "allowed"),
    [
        ({"lambda_": -1}, "lambda_ must be a finite number >= 0"),
        ({"lr": -1}, "lr must be a finite number >= 0"),
        ({"momentum": 2}, r"momentum must be a number in \[0, 1\]"),
        ({"iterations": 0}, "iterations must be a whole number >= 1"),
        ({"preference": [-1, 1]}, r"preference\[0\] must be a finite number >= 0"),
    ],
)
def test_hyperparameters_out_of_range_are_refused(option: dict[str, float], allowed: str) -> None:
    with pytest.raises(ValueError, match=f"sdmgrad: {allowed}, got"):
        SDMGrad(**option)
