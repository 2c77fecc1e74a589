import pytest
import torch
from torch import Tensor, nn

import recon
from recon.methods import MetaBalance


def jacobian_of(seed: int) -> Tensor:
    return torch.randn(3, 6, generator=torch.Generator().manual_seed(seed)) * torch.tensor([[1.0], [10.0], [0.1]])


def test_follows_the_papers_loop_over_tasks() -> None:
    method, relax, beta = MetaBalance(relax=0.6, beta=0.8), 0.6, 0.8
    norms = [0.0, 0.0, 0.0]
    for seed in range(6):
        jacobian, update = jacobian_of(seed), torch.zeros(6)
        for task, gradient in enumerate(jacobian):
            norms[task] = beta * norms[task] + (1 - beta) * float(gradient.norm())
            update += relax * gradient * norms[0] / norms[task] + (1 - relax) * gradient
        torch.testing.assert_close(method.combine(jacobian), update)


def test_full_relaxation_makes_all_gradients_as_long_as_the_primary_one() -> None:
    jacobian = torch.diag(torch.tensor([2.0, 5.0, 0.1]))
    torch.testing.assert_close(MetaBalance(relax=1.0).combine(jacobian), torch.full((3,), 2.0))
    torch.testing.assert_close(MetaBalance(relax=1.0, primary=2).combine(jacobian), torch.full((3,), 0.1))


def test_no_relaxation_is_the_plain_sum() -> None:
    torch.testing.assert_close(MetaBalance(relax=0.0).combine(jacobian_of(0)), jacobian_of(0).sum(0))


def test_layers_are_balanced_each_by_itself() -> None:
    """As the published code does, for layers of one parameter each."""
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Linear(3, 4, bias=False), nn.Tanh(), nn.Linear(4, 2, bias=False))
    weights = [backbone[0].weight, backbone[2].weight]
    engine = recon.Engine(backbone, ["a", "b"], "metabalance", granularity="layer")
    for seed in range(3):
        x = torch.randn(5, 3, generator=torch.Generator().manual_seed(seed))
        gradients = []
        for task in range(2):
            gradients.append(torch.autograd.grad(backbone(x)[:, task].square().sum(), weights))
        if seed == 0:
            norms = [[0.1 * g.norm() for g in own] for own in gradients]
        else:
            norms = [
                [0.9 * n + 0.1 * g.norm() for n, g in zip(past, own, strict=True)]
                for past, own in zip(norms, gradients, strict=True)
            ]
        backbone.zero_grad()
        engine.backward({"a": backbone(x)[:, 0].square().sum(), "b": backbone(x)[:, 1].square().sum()})
        for layer, weight in enumerate(weights):
            auxiliary = gradients[1][layer] * (0.7 * norms[0][layer] / norms[1][layer] + 0.3)
            torch.testing.assert_close(weight.grad, gradients[0][layer] + auxiliary)


def test_a_step_without_the_primary_task_is_the_plain_sum() -> None:
    method = MetaBalance()
    method.bind(3)
    with method.among([1, 2]):
        torch.testing.assert_close(method.combine(jacobian_of(0)[1:]), jacobian_of(0)[1:].sum(0))


def test_hyperparameters_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"metabalance: relax must be a number in \[0, 1\], got 1.5"):
        MetaBalance(relax=1.5)
    with pytest.raises(ValueError, match=r"metabalance: beta must be a number in \[0, 1\), got 1"):
        MetaBalance(beta=1)
    with pytest.raises(ValueError, match="metabalance: primary must be the index of one of 2 tasks, got 5"):
        MetaBalance(primary=5).combine(torch.eye(2))


def test_a_task_that_comes_later_is_brought_to_the_same_length() -> None:
    method = MetaBalance(relax=1.0)
    method.bind(3)
    gramian = torch.tensor([4.0, 1.0, 9.0], dtype=torch.float64).diag()
    for _ in range(50):
        with method.among([0, 1]):
            method.weights(gramian[:2, :2])
    torch.testing.assert_close(method.weights(gramian), torch.tensor([1, 2, 2 / 3], dtype=torch.float64))
