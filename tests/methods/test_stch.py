import pytest
import torch
import torchjd.scalarization

from recon.methods import STCH


@pytest.mark.parametrize("tasks", [2, 3, 5, 10, 40])
@pytest.mark.parametrize("mu", [0.01, 0.5, 10])
def test_weights_are_torchjds_times_the_number_of_tasks(tasks: int, mu: float) -> None:
    losses = torch.rand(tasks, dtype=torch.float64, generator=torch.Generator().manual_seed(tasks)).requires_grad_()
    torchjd.scalarization.STCH(mu)(losses).backward()
    assert losses.grad is not None
    torch.testing.assert_close(STCH(mu=mu).loss_weights(losses.detach()), tasks * losses.grad)


def test_preference_and_ideal_enter_as_in_the_paper() -> None:
    preference, ideal = torch.tensor([0.7, 0.0, 0.3]), torch.tensor([0.1, 0.0, -2.0])
    losses = torch.tensor([1.0, 9.0, 0.5], requires_grad=True)
    (3 * 0.2 * (preference * (losses - ideal) / 0.2).exp().sum().log()).backward()
    method = STCH(mu=0.2, preference=preference.tolist(), ideal=ideal.tolist())
    torch.testing.assert_close(method.loss_weights(losses.detach()), losses.grad)


def test_large_losses_over_a_small_mu_stay_finite() -> None:
    for mu in (1e-6, 1e-30):
        assert STCH(mu=mu).loss_weights(torch.tensor([1e6, 2e6])).tolist() == [0, 1]


@pytest.mark.parametrize("mu", [0, -1, 1e-50, float("inf")])
def test_mu_out_of_range_is_refused(mu: float) -> None:
    with pytest.raises(ValueError, match="stch: mu must be a finite number >= 1e-30, got"):
        STCH(mu=mu)


@pytest.mark.parametrize("preference", [[0, 0], [1, -1]])
def test_a_preference_out_of_range_is_refused(preference: list[float]) -> None:
    with pytest.raises(ValueError, match="stch: preference"):
        STCH(preference=preference)
