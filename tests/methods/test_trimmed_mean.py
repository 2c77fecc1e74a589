from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torchjd.aggregation import TrimmedMean as TorchjdTrimmedMean

from recon.methods import TrimmedMean, trimmed_mean


@pytest.mark.parametrize(("tasks", "fraction", "trimmed"), [(3, 1 / 3, 1), (5, 0.2, 1), (10, 0.35, 3), (40, 0.4, 16)])
def test_equals_torchjds(tasks: int, fraction: float, trimmed: int) -> None:
    jacobian = torch.randn(tasks, 50, dtype=torch.float64)
    torch.testing.assert_close(TrimmedMean(fraction).combine(jacobian), TorchjdTrimmedMean(trimmed)(jacobian))


@pytest.mark.parametrize(("fraction", "trimmed_of"), [(0.0, lambda tasks: 0), (0.4, lambda tasks: 2 * tasks // 5)])
def test_equals_torchjds_on_every_kind_of_jacobian(
    jacobian: Tensor, fraction: float, trimmed_of: Callable[[int], int]
) -> None:
    theirs = TorchjdTrimmedMean(trimmed_of(len(jacobian)))(jacobian)
    torch.testing.assert_close(TrimmedMean(fraction).combine(jacobian), theirs)


def test_blocks_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    jacobian = torch.randn(5, 50, dtype=torch.float64)
    whole = TrimmedMean().combine(jacobian)
    monkeypatch.setattr(trimmed_mean, "_BLOCK", 7)
    assert torch.equal(TrimmedMean().combine(jacobian), whole)


def test_the_extremes_of_each_coordinate_are_left_out() -> None:
    jacobian = torch.tensor([[1.0, 9.0], [2.0, -100.0], [50.0, 1.0]])
    assert TrimmedMean().combine(jacobian).tolist() == [2, 1]


@pytest.mark.parametrize("tasks", [1, 2])
def test_few_tasks_are_averaged(tasks: int) -> None:
    jacobian = torch.randn(tasks, 50)
    torch.testing.assert_close(TrimmedMean().combine(jacobian), jacobian.mean(0))


@pytest.mark.parametrize("tasks", [2, 4])
def test_one_gradient_always_stays(tasks: int) -> None:
    jacobian = torch.randn(tasks, 50)
    middle = jacobian.sort(dim=0).values[tasks // 2 - 1 : tasks // 2 + 1].mean(0)
    torch.testing.assert_close(TrimmedMean(0.4999999999).combine(jacobian), middle)


@pytest.mark.parametrize("fraction", [-0.1, 0.5, float("nan"), "1"])
def test_a_fraction_out_of_range_is_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match=r"trimmed_mean: fraction must be a number in \[0, 0.5\), got"):
        TrimmedMean(fraction)
