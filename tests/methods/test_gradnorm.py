import pytest
import torch
from torch import Tensor, nn

from recon.methods import GradNorm


def inputs(seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    norms = torch.tensor([[1.0], [10.0], [0.1]], dtype=torch.float64)
    return (
        norms * torch.randn(3, 20, dtype=torch.float64, generator=generator),
        0.5 + torch.rand(3, dtype=torch.float64, generator=generator),
    )


def test_weights_descend_the_papers_loss_by_autograd_and_adam() -> None:
    method, alpha = GradNorm(alpha=1.5, lr=0.05), 1.5
    logits = nn.Parameter(torch.zeros(3, dtype=torch.float64))
    adam = torch.optim.Adam([logits], lr=0.05)
    first = inputs(0)[1]
    for seed in range(15):
        jacobian, losses = inputs(seed)
        weights = 3 * logits.softmax(0)
        torch.testing.assert_close(method.combine(jacobian, losses), weights.detach() @ jacobian, rtol=1e-4, atol=1e-4)
        norms = (weights[:, None] * jacobian).norm(dim=1)
        rates = losses / first
        target = (norms.mean() * (rates / rates.mean()) ** alpha).detach()
        adam.zero_grad()
        (norms - target).abs().sum().backward()
        adam.step()
    assert logits.std() > 0.3


def test_makes_norms_equal_where_all_tasks_learn_alike() -> None:
    method, losses = GradNorm(lr=0.05), torch.ones(3)
    jacobian = torch.diag(torch.tensor([1.0, 3.0, 0.5]))
    for _ in range(500):
        method.combine(jacobian, losses)
    norms = method.combine(jacobian, losses)  # of orthogonal gradients
    assert norms.max() / norms.min() < 1.15


def test_a_lagging_task_gains_weight() -> None:
    method, jacobian = GradNorm(alpha=1.0), torch.eye(2)
    method.combine(jacobian, torch.tensor([1.0, 1.0]))
    for _ in range(20):
        weights = method.combine(jacobian, torch.tensor([0.2, 0.9]))
    assert weights[1] > 1.1 > 0.9 > weights[0]


def test_weights_keep_their_sum() -> None:
    method = GradNorm(lr=1.0)
    for seed in range(20):
        jacobian, losses = inputs(seed)
        weights = method.weights(jacobian @ jacobian.T, losses)
        assert (weights > 0).all()
        assert weights.sum().item() == pytest.approx(3, rel=1e-6)


def test_losses_are_needed_and_positive() -> None:
    with pytest.raises(ValueError, match=r"gradnorm: .*pass losses"):
        GradNorm().combine(torch.eye(2))
    with pytest.raises(ValueError, match="gradnorm: needs positive losses, got -1 at task index 0"):
        GradNorm().combine(torch.eye(2), torch.tensor([-1.0, 1.0]))


def test_hyperparameters_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="gradnorm: alpha must be a finite number >= 0, got -1"):
        GradNorm(alpha=-1)
