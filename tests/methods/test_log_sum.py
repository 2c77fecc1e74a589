import pytest
import torch

from recon.methods import GLS, LogSum


def test_weights_are_the_slopes_of_the_sum_of_logarithms() -> None:
    losses = torch.tensor([2.0, 0.5, 1.0], requires_grad=True)
    losses.log().sum().backward()
    torch.testing.assert_close(LogSum().loss_weights(losses.detach()), losses.grad)


def test_leads_where_the_geometric_mean_leads() -> None:
    jacobian, losses = torch.randn(4, 9, dtype=torch.float64), torch.rand(4, dtype=torch.float64) + 0.1
    updates = [method.combine(jacobian, losses) for method in (LogSum(), GLS())]
    torch.testing.assert_close(*(update / update.norm() for update in updates))


def test_a_negative_loss_is_refused() -> None:
    with pytest.raises(ValueError, match=r"log_sum: needs positive losses, got -0.25 at task index 0"):
        LogSum().loss_weights(torch.tensor([-0.25, 2.0]))
