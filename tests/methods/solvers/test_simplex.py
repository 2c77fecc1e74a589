from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from recon.methods.solvers.simplex import nearest_on_simplex, nearest_on_simplex_on_device


def on_host(vector: Tensor) -> Tensor:
    return torch.from_numpy(nearest_on_simplex(vector.numpy()))


BOTH = pytest.mark.parametrize("nearest", [on_host, nearest_on_simplex_on_device])


def by_bisection(vector: Tensor) -> Tensor:
    """The amount by which all entries are lowered, found so that what stays positive sums to 1."""
    low, high = vector.min() - 1, vector.max()
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if (vector - middle).clamp(min=0).sum() > 1 else (low, middle)
    return (vector - low).clamp(min=0)


@BOTH
@settings(deadline=None, max_examples=100)
@given(st.lists(st.floats(-5, 5), min_size=1, max_size=8))
def test_projection_equals_a_bisection(nearest: Callable[[Tensor], Tensor], values: list[float]) -> None:
    vector = torch.tensor(values, dtype=torch.float64)
    torch.testing.assert_close(nearest(vector), by_bisection(vector), rtol=0, atol=1e-12)


@BOTH
@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(-1e60, 1e60), min_size=1, max_size=8))
def test_projection_of_anything_lies_on_the_simplex(nearest: Callable[[Tensor], Tensor], values: list[float]) -> None:
    point = nearest(torch.tensor(values, dtype=torch.float64))
    assert (point >= 0).all()
    assert point.sum().item() == pytest.approx(1, abs=1e-12)


@BOTH
def test_a_point_of_the_simplex_stays(nearest: Callable[[Tensor], Tensor]) -> None:
    point = torch.tensor([0.2, 0.0, 0.8], dtype=torch.float64)
    torch.testing.assert_close(nearest(point), point)
