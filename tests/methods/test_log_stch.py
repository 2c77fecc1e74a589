import pytest
import torch
from torch import Tensor

from recon.methods import LogSTCH


def published(epochs: list[list[Tensor]], mu: float, warmup_epoch: int) -> list[Tensor]:
    """Gradients of the losses as the published code has them, batch by batch."""
    gradients, total, count = [], torch.zeros(len(epochs[0][0])), 0
    for epoch, batches in enumerate(epochs):
        for batch in batches:
            losses = batch.clone().requires_grad_()
            if epoch <= warmup_epoch:
                if epoch == warmup_epoch:
                    total, count = total + batch, count + 1
                losses.log().sum().backward()
            else:
                growth = (losses / (total / count)).log()
                (mu * (growth / mu).exp().sum().log() * len(batch)).backward()
            assert losses.grad is not None
            gradients.append(losses.grad)
    return gradients


@pytest.mark.parametrize("mu", [0.3, 1.0])
@pytest.mark.parametrize("warmup_epochs", [1, 2])
def test_equals_the_published_code_over_five_epochs(mu: float, warmup_epochs: int) -> None:
    generator = torch.Generator().manual_seed(0)
    epochs = [[torch.rand(3, generator=generator) + 0.1 for _ in range(length)] for length in (3, 2, 4, 1, 2)]
    expected = iter(published(epochs, mu, warmup_epochs - 1))
    method = LogSTCH(mu=mu, warmup_epochs=warmup_epochs)
    for batches in epochs:
        for batch in batches:
            torch.testing.assert_close(method.loss_weights(batch), next(expected))
        method.end_epoch()


def test_the_smallest_mu_leaves_the_task_that_grew_most() -> None:
    method = LogSTCH(mu=1e-30, warmup_epochs=1)
    method.loss_weights(torch.tensor([1.0, 4.0]))
    method.end_epoch()
    assert method.loss_weights(torch.tensor([2.0, 4.0])).tolist() == [1, 0]


def test_hyperparameters_and_losses_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="log_stch: warmup_epochs must be a whole number >= 1, got 0"):
        LogSTCH(warmup_epochs=0)
    for mu in (0, 1e-50):
        with pytest.raises(ValueError, match=f"log_stch: mu must be a finite number >= 1e-30, got {mu}"):
            LogSTCH(mu=mu)
    with pytest.raises(ValueError, match="log_stch: needs positive losses, got -1 at task index 1"):
        LogSTCH().loss_weights(torch.tensor([1.0, -1.0]))
