import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from recon.methods.base.learned_weights import LearnedWeights
from recon.methods.solvers.simplex import nearest_on_simplex


def by_bisection(vector: Tensor) -> Tensor:
    """The amount by which all entries are lowered, found so that what stays positive sums to 1."""
    low, high = vector.min() - 1, vector.max()
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if (vector - middle).clamp(min=0).sum() > 1 else (low, middle)
    return (vector - low).clamp(min=0)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.floats(-5, 5), min_size=1, max_size=8))
def test_projection_equals_a_bisection(values: list[float]) -> None:
    vector = torch.tensor(values, dtype=torch.float64)
    torch.testing.assert_close(nearest_on_simplex(vector), by_bisection(vector), rtol=0, atol=1e-12)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(-1e60, 1e60), min_size=1, max_size=8))
def test_projection_of_anything_lies_on_the_simplex(values: list[float]) -> None:
    nearest = nearest_on_simplex(torch.tensor(values, dtype=torch.float64))
    assert (nearest >= 0).all()
    assert nearest.sum().item() == pytest.approx(1, abs=1e-12)


def test_a_point_of_the_simplex_stays() -> None:
    point = torch.tensor([0.2, 0.0, 0.8], dtype=torch.float64)
    torch.testing.assert_close(nearest_on_simplex(point), point)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_logits_move_as_torchs_adam_moves_them(weight_decay: float) -> None:
    ours = LearnedWeights(3, lr=0.1, weight_decay=weight_decay)
    logits = nn.Parameter(torch.zeros(3, dtype=torch.float64))
    adam = torch.optim.Adam([logits], lr=0.1, weight_decay=weight_decay)
    for seed in range(20):
        slope = torch.randn(3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        ours.descend(slope)
        adam.zero_grad()
        (logits.softmax(0) @ slope).backward()
        adam.step()
        torch.testing.assert_close(ours(), logits.softmax(0).detach())


def test_weights_start_equal_and_have_no_learnable_parameters() -> None:
    assert LearnedWeights(4, lr=0.1)().tolist() == [0.25] * 4
    assert list(LearnedWeights(4, lr=0.1).parameters()) == []
