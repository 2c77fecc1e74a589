from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torchjd.aggregation import AlignedMTL as TorchjdAlignedMTL

from recon.methods import AlignedMTL

MODES = ["min", "median", "rmse"]


def aligned(jacobian: Tensor, mode: str) -> Tensor:
    """The Jacobian with all singular values made alike, by the decomposition of the Jacobian
    itself.
    """
    left, values, right = torch.linalg.svd(jacobian, full_matrices=False)
    kept = values > 1e-10 * values[0]
    squares = values[kept] ** 2
    square = {"min": squares.min(), "median": squares.median(), "rmse": squares.mean()}[mode]
    return square.sqrt() * left[:, kept] @ right[kept]


@pytest.mark.parametrize("mode", MODES)
def test_sums_the_rows_of_the_aligned_jacobian(regular: Tensor, mode: str) -> None:
    size = float(regular.norm(dim=1).max())
    torch.testing.assert_close(
        AlignedMTL(mode).combine(regular), aligned(regular, mode).sum(0), rtol=1e-6, atol=1e-6 * size
    )


@pytest.mark.parametrize("mode", MODES)
def test_dependent_gradients_lose_rank(mode: str) -> None:
    jacobian = torch.randn(3, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    jacobian = torch.cat([jacobian, jacobian[:1] + jacobian[1:2], torch.zeros(1, 8, dtype=torch.float64)])
    update = AlignedMTL(mode).combine(jacobian)
    torch.testing.assert_close(update, aligned(jacobian, mode).sum(0), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("parameters", [8, 1000])
def test_gradients_that_depend_on_each_other_but_for_float32_rounding_lose_rank_too(mode: str, parameters: int) -> None:
    for seed in range(10):
        jacobian = torch.randn(4, parameters, generator=torch.Generator().manual_seed(seed))
        jacobian[2] = jacobian[0] + jacobian[1]
        jacobian[3] = jacobian[0] * (1 + 1e-7 * jacobian[3])
        values = torch.linalg.svd(jacobian.double(), full_matrices=False)
        squares = values.S[:2] ** 2
        square = {"min": squares[1], "median": squares[1], "rmse": squares.mean()}[mode]
        expected = (square.sqrt() * values.U[:, :2] @ values.Vh[:2]).sum(0)
        torch.testing.assert_close(AlignedMTL(mode).combine(jacobian).double(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("mode", MODES)
def test_torchjd_has_the_same_direction(
    regular: Tensor, mode: str, same_direction: Callable[[Tensor, Tensor], bool]
) -> None:
    theirs = TorchjdAlignedMTL(scale_mode=mode)(regular)
    assert same_direction(AlignedMTL(mode).combine(regular), theirs)
    assert (theirs.norm() * len(regular)).item() == pytest.approx(AlignedMTL(mode).combine(regular).norm().item(), 1e-3)


def test_a_short_gradient_keeps_its_digits_beside_a_long_one() -> None:
    # Orthogonal gradients keep their directions, and become as long as the shortest.
    jacobian = torch.tensor([[3e-10, 4e-10, 0.0], [-8e14, 6e14, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    expected = torch.tensor([0.6 - 0.8, 0.8 + 0.6, 1.0], dtype=torch.float64) * 5e-10
    torch.testing.assert_close(AlignedMTL().combine(jacobian), expected, rtol=1e-9, atol=0)
    assert TorchjdAlignedMTL()(jacobian).norm() > 1e10  # it drops the two shorter as rounding


def test_a_preference_weighs_the_aligned_gradients() -> None:
    jacobian = torch.randn(3, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = torch.tensor([1.0, 0.0, 2.5], dtype=torch.float64) @ aligned(jacobian, "min")
    torch.testing.assert_close(AlignedMTL(preference=[1, 0, 2.5]).combine(jacobian), expected)


def test_an_unknown_mode_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"aligned_mtl: scale_mode must be one of .*'rmse'.*, got 'max'"):
        AlignedMTL(scale_mode="max")
