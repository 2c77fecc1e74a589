import pytest
import torch

from recon.methods import UWSO


@pytest.mark.parametrize("temperature", [0.5, 1.0, 20.0])
def test_weights_are_the_softmax_of_inverse_losses(temperature: float) -> None:
    losses = torch.tensor([2.0, 0.7, 1.3], dtype=torch.float64)
    exponentials = torch.exp(1 / (temperature * losses))
    torch.testing.assert_close(UWSO(temperature).loss_weights(losses), exponentials / exponentials.sum())


def test_losses_of_any_size_give_finite_weights() -> None:
    for losses in ([1e-44, 1.0], [1e-44, 1e-44], [1e-30, 1e30], [1e-6, 2e-6]):
        weights = UWSO(1e-30).loss_weights(torch.tensor(losses))
        assert weights.isfinite().all()
        assert weights.sum().item() == pytest.approx(1)


def test_a_loss_of_zero_takes_no_part() -> None:
    weights = UWSO().loss_weights(torch.tensor([2.0, 0.0, 1.0]))
    assert weights[1] == 0
    torch.testing.assert_close(weights[[0, 2]], UWSO().loss_weights(torch.tensor([2.0, 1.0])))
    assert not UWSO().loss_weights(torch.zeros(2)).any()


def test_negative_losses_and_temperatures_are_refused() -> None:
    with pytest.raises(ValueError, match="uw_so: needs positive losses, got -1 at task index 1"):
        UWSO().loss_weights(torch.tensor([1.0, -1.0]))
    with pytest.raises(ValueError, match="uw_so: temperature must be a finite number >= 1e-30, got 0"):
        UWSO(0)
