import pytest
import torch

from recon.methods import IMTL, IMTLG


def scaled(method: IMTL, scales: list[float]) -> IMTL:
    method.bind(len(scales))
    method.by_task.set(torch.tensor(scales).log())
    return method


def test_is_imtl_g_of_the_gradients_of_the_scaled_losses() -> None:
    jacobian = torch.randn(3, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    scales = torch.tensor([2.0, 0.5, 8.0], dtype=torch.float64)
    update = scaled(IMTL(), scales.tolist()).combine(jacobian, torch.ones(3))
    torch.testing.assert_close(update, IMTLG().combine(scales[:, None] * jacobian), rtol=1e-6, atol=1e-6)


def test_gradient_of_the_scales_is_that_of_the_scaled_losses() -> None:
    method, losses = scaled(IMTL(), [2.0, 0.5]), torch.tensor([3.0, 0.1])
    for _ in range(2):
        method.combine(torch.eye(2), losses)
    leaf = method.log_scales.detach().clone().requires_grad_()
    (2 * (leaf.exp() * losses - leaf).sum()).backward()
    gradients = torch.stack([number.grad for number in method.parameters() if number.grad is not None])
    torch.testing.assert_close(gradients, leaf.grad)


def test_an_optimizer_brings_the_scaled_losses_to_one() -> None:
    method, losses = IMTL(), torch.tensor([3.0, 0.2], dtype=torch.float64)
    method.bind(2)
    optimizer = torch.optim.Adam(method.parameters(), lr=0.1)
    for _ in range(500):
        optimizer.zero_grad()
        method.weights(torch.eye(2), losses)
        optimizer.step()
    torch.testing.assert_close(method.log_scales.exp().double() * losses, torch.ones(2).double(), rtol=1e-3, atol=0)


def test_losses_are_needed_and_positive() -> None:
    with pytest.raises(ValueError, match=r"imtl: .*pass losses"):
        IMTL().weights(torch.eye(2))
    with pytest.raises(ValueError, match="imtl: needs positive losses, got -1 at task index 1"):
        IMTL().weights(torch.eye(2), torch.tensor([1.0, -1.0]))
