import io

import numpy as np
import pytest
import torch
from torch import Tensor
from torchjd.aggregation import GradVac as TorchjdGradVac

from recon.methods import GradVac, PCGrad
from recon.methods.solvers.orders import orders_of_others


def normal(seed: int, tasks: int, parameters: int = 12) -> Tensor:
    return torch.randn(tasks, parameters, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def turned_sum(jacobian: Tensor, targets: Tensor, beta: float, orders: list[list[int]]) -> Tensor:
    """Algorithm 1 of the paper on the gradients themselves; moves the targets."""
    total = torch.zeros_like(jacobian[0])
    for i, order in enumerate(orders):
        turned = jacobian[i].clone()
        for j in order:
            cosine = torch.cosine_similarity(turned, jacobian[j], dim=0)
            target = targets[i, j].clone()
            targets[i, j] = (1 - beta) * target + beta * cosine
            if cosine < target:
                above = target * (1 - cosine**2).sqrt() - cosine * (1 - target**2).sqrt()
                turned = turned + turned.norm() * above / (jacobian[j].norm() * (1 - target**2).sqrt()) * jacobian[j]
        total += turned
    return total


@pytest.mark.parametrize("tasks", [2, 3, 5, 10])
@pytest.mark.parametrize("beta", [0.01, 0.5])
def test_equals_the_algorithm_on_the_gradients_themselves(tasks: int, beta: float) -> None:
    method, drawn = GradVac(beta=beta, seed=3), GradVac(seed=3)
    targets = torch.zeros(tasks, tasks, dtype=torch.float64)
    for seed in range(4):
        jacobian = normal(seed, tasks)
        expected = turned_sum(jacobian, targets, beta, orders_of_others(1, tasks, drawn.generator)[0].tolist())
        torch.testing.assert_close(method.combine(jacobian), expected)
    torch.testing.assert_close(method.targets, targets)


@pytest.mark.parametrize("tasks", [2, 3, 10, 40])
def test_equals_torchjd_in_the_same_order(tasks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    others = np.array([[j for j in range(tasks) if j != i] for i in range(tasks)])
    monkeypatch.setattr("recon.methods.gradvac.orders_of_others", lambda groups, tasks, generator: others[None])
    monkeypatch.setattr(torch, "randperm", torch.arange)
    ours, theirs = GradVac(beta=0.3), TorchjdGradVac(beta=0.3, eps=0.0)
    for seed in range(3):
        jacobian = normal(seed, tasks)
        torch.testing.assert_close(ours.combine(jacobian), theirs(jacobian), rtol=1e-6, atol=1e-6)


def test_the_first_step_is_pcgrads() -> None:
    jacobian = normal(0, 6)
    torch.testing.assert_close(GradVac(seed=5).combine(jacobian), PCGrad(seed=5).combine(jacobian))


def test_targets_come_to_the_usual_cosine_and_are_then_met() -> None:
    near = torch.tensor([[1.0, 0.0], [0.8, 0.6]], dtype=torch.float64)
    method = GradVac()
    for _ in range(60):
        method.combine(near)
    assert method.targets[0, 1].item() == pytest.approx(0.8)
    # Gradients at right angles are each turned to that cosine with the other: (1, t) and (t, 1)
    # with t = 0.8 / 0.6.
    torch.testing.assert_close(
        method.combine(torch.eye(2, dtype=torch.float64)), torch.full((2,), 1 + 0.8 / 0.6, dtype=torch.float64)
    )


def test_a_disagreement_after_long_agreement_lengthens_the_update_greatly() -> None:
    first, second = torch.eye(2, dtype=torch.float64)
    method = GradVac(beta=0.5)
    for _ in range(10):
        method.combine(torch.stack([first, first]))
    target = 1 - 0.5**10
    assert method.targets[0, 1].item() == pytest.approx(target)
    update = method.combine(torch.stack([first, second]))
    # Each is as long as 1 / sqrt(1 - t²) and turned to the cosine t with the other: (1, t/√) and
    # (t/√, 1).
    expected = 1 + target / (1 - target**2) ** 0.5
    torch.testing.assert_close(update, torch.full((2,), expected, dtype=torch.float64))
    assert 33 < update.norm() < 34


def test_a_cosine_of_one_does_not_make_later_updates_infinite() -> None:
    method, gradient = GradVac(beta=1.0), normal(0, 1)
    method.combine(gradient.repeat(3, 1))
    assert method.combine(normal(1, 3)).isfinite().all()


def test_zero_gradients_meet_no_target_and_move_none() -> None:
    method, jacobian = GradVac(), normal(0, 3)
    jacobian[1] = 0
    torch.testing.assert_close(method.combine(jacobian), GradVac().combine(jacobian[[0, 2]]))
    assert not method.targets[1].any()
    assert not method.targets[:, 1].any()
    assert method.targets[0, 2] != 0


def test_targets_and_orders_continue_from_a_checkpoint() -> None:
    method = GradVac(seed=4)
    for seed in range(3):
        method.combine(normal(seed, 5))
    file = io.BytesIO()
    torch.save(method.state_dict(), file)
    expected = method.combine(normal(9, 5))
    file.seek(0)
    resumed = GradVac()
    resumed.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(resumed.combine(normal(9, 5)), expected)


@pytest.mark.parametrize("beta", [-0.1, 1.1, float("nan")])
def test_a_share_out_of_range_is_refused(beta: float) -> None:
    with pytest.raises(ValueError, match=r"gradvac: beta must be a number in \[0, 1\], got"):
        GradVac(beta=beta)
