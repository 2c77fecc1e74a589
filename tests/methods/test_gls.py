import pytest
import torch
import torchjd.scalarization

from recon.methods import GLS


@pytest.mark.parametrize("tasks", [2, 3, 5, 10, 40])
def test_weights_are_the_slopes_of_the_geometric_mean(tasks: int) -> None:
    generator = torch.Generator().manual_seed(tasks)
    losses = 3 * torch.rand(tasks, dtype=torch.float64, generator=generator) + 0.01
    leaves = losses.clone().requires_grad_()
    (leaves.prod() ** (1 / tasks)).backward()
    torch.testing.assert_close(GLS().loss_weights(losses), leaves.grad)
    leaves.grad = None
    torchjd.scalarization.GeometricMean()(leaves).backward()
    torch.testing.assert_close(GLS().loss_weights(losses), leaves.grad)


def test_the_unit_of_a_loss_does_not_turn_the_update() -> None:
    jacobian, losses = torch.randn(3, 7, dtype=torch.float64), torch.tensor([1.0, 2.0, 3.0]).double()
    units = torch.tensor([1.0, 1e-3, 50.0]).double()
    plain = GLS().combine(jacobian, losses)
    scaled = GLS().combine(units[:, None] * jacobian, units * losses)
    torch.testing.assert_close(scaled / scaled.norm(), plain / plain.norm())


def test_a_product_out_of_range_is_no_trouble() -> None:
    losses = torch.full((40,), 1e-30)
    torch.testing.assert_close(GLS().loss_weights(losses), torch.full((40,), 1 / 40))


def test_a_negative_loss_is_refused() -> None:
    with pytest.raises(ValueError, match=r"gls: needs positive losses, got -0.25 at task index 2; add a constant"):
        GLS().loss_weights(torch.tensor([1.0, 2.0, -0.25]))
