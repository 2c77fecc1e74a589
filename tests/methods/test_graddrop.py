import pytest
import torch
from torch import Tensor
from torchjd.aggregation import GradDrop as TorchjdGradDrop

from recon.methods import GradDrop


def sign_dropped_mean(jacobian: Tensor, uniform: Tensor, leak: float) -> Tensor:
    """Algorithm 1 of the paper, one coordinate and task at a time, as a mean over tasks."""
    update = torch.zeros_like(jacobian[0])
    for p, column in enumerate(jacobian.T.tolist()):
        size = sum(abs(g) for g in column)
        purity = 0.5 * (1 + sum(column) / size) if size > 0 else 0.5
        for g in column:
            kept = (g > 0 and uniform[p] < purity) or (g < 0 and uniform[p] > purity)
            update[p] += (leak + (1 - leak) * kept) * g / len(jacobian)
    return update


@pytest.fixture
def uniform(monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """The numbers that every draw of this test returns."""
    numbers = torch.rand(200, generator=torch.Generator().manual_seed(7))
    monkeypatch.setattr(
        torch, "rand", lambda size, **kwargs: numbers[: torch.Size([size] if isinstance(size, int) else size).numel()]
    )
    return numbers


@pytest.fixture
def gradients() -> Tensor:
    return torch.randn(4, 200, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) - 0.3


@pytest.mark.parametrize("leak", [0.0, 0.3, 1.0])
def test_equals_the_algorithm_coordinate_by_coordinate(uniform: Tensor, gradients: Tensor, leak: float) -> None:
    gradients[:, :5] = 0
    torch.testing.assert_close(GradDrop(leak=leak).combine(gradients), sign_dropped_mean(gradients, uniform, leak))


@pytest.mark.parametrize("leak", [0.0, 0.3])
def test_is_the_mean_where_torchjd_is_the_sum(uniform: Tensor, gradients: Tensor, leak: float) -> None:
    theirs = TorchjdGradDrop(leak=torch.full((4,), leak, dtype=torch.float64))(gradients)
    torch.testing.assert_close(GradDrop(leak=leak).combine(gradients) * 4, theirs)


def test_is_torchjds_mean_on_every_kind_of_jacobian(uniform: Tensor, jacobian: Tensor) -> None:
    theirs = TorchjdGradDrop()(jacobian) / len(jacobian)
    expected = theirs.nan_to_num(0.0)  # its purity of a coordinate without gradient is 0/0
    torch.testing.assert_close(GradDrop().combine(jacobian), expected)


def test_sign_is_drawn_with_the_probability_of_its_purity() -> None:
    column = torch.tensor([[3.0], [-1.0]])  # purity 3/4
    update = GradDrop().combine(column.repeat(1, 40_000))
    assert set(update.tolist()) == {1.5, -0.5}
    assert (update > 0).float().mean().item() == pytest.approx(0.75, abs=0.01)


def test_coordinates_are_drawn_independently_and_anew_each_time() -> None:
    method, jacobian = GradDrop(), torch.tensor([[1.0], [-1.0]]).repeat(1, 10_000)
    first, second = method.combine(jacobian) > 0, method.combine(jacobian) > 0
    for same in ((first == second), (first[1:] == first[:-1])):
        assert same.float().mean().item() == pytest.approx(0.5, abs=0.02)


def test_gradients_of_one_sign_pass_whole() -> None:
    jacobian = torch.randn(3, 1).abs() * torch.randn(100).sign()
    torch.testing.assert_close(GradDrop().combine(jacobian), jacobian.mean(0))


def test_full_leak_is_the_mean() -> None:
    jacobian = torch.randn(3, 100)
    torch.testing.assert_close(GradDrop(leak=1).combine(jacobian), jacobian.mean(0))


def test_coordinate_without_any_gradient_stays_zero() -> None:
    jacobian = torch.tensor([[0.0, 1.0], [0.0, 1.0]])
    assert GradDrop().combine(jacobian).tolist() == [0.0, 1.0]


@pytest.mark.parametrize("leak", [-0.1, 1.1, float("nan"), "half"])
def test_leak_out_of_range_is_refused(leak: float) -> None:
    with pytest.raises(ValueError, match=r"graddrop: leak must be a number in \[0, 1\], got"):
        GradDrop(leak=leak)
