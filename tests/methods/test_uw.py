import pytest
import torch
import torchjd.scalarization

from recon.methods import UW


def test_objective_is_the_papers_and_so_are_both_gradients() -> None:
    method, losses = UW(), torch.tensor([2.0, 0.5], dtype=torch.float64, requires_grad=True)
    method.bind(2)
    method.by_task.set(torch.tensor([0.3, -0.7]))
    s = method.log_variances.detach().double()
    objective = method.objective(losses)
    torch.testing.assert_close(objective, (losses / (2 * s.exp()) + s / 2).sum())
    objective.backward()
    torch.testing.assert_close(losses.grad, 1 / (2 * s.exp()))
    gradients = torch.stack([number.grad for number in method.parameters() if number.grad is not None])
    torch.testing.assert_close(gradients, (0.5 - losses / (2 * s.exp())).detach().float())


def test_trains_as_torchjds_does() -> None:
    ours, theirs = UW(), torchjd.scalarization.UW(3)
    ours.bind(3)
    optimizers = [torch.optim.SGD(each.parameters(), lr=0.1, momentum=0.9) for each in (ours, theirs)]
    for seed in range(10):
        losses = torch.rand(3, generator=torch.Generator().manual_seed(seed))
        for objective, optimizer in zip((ours.objective, theirs), optimizers, strict=True):
            optimizer.zero_grad()
            objective(losses).backward()
            optimizer.step()
    torch.testing.assert_close(ours.log_variances, theirs.log_var)
    assert ours.log_variances.abs().min() > 0.01


def test_learned_variances_settle_at_the_losses() -> None:
    method, losses = UW(), torch.tensor([3.0, 0.2])
    method.bind(2)
    optimizer = torch.optim.Adam(method.parameters(), lr=0.1)
    for _ in range(500):
        optimizer.zero_grad()
        method.objective(losses).backward()
        optimizer.step()
    torch.testing.assert_close(method.log_variances.exp(), losses, rtol=1e-3, atol=0)


def test_variances_exist_before_the_optimizer_and_reach_the_checkpoint() -> None:
    method = UW()
    method.bind(2)
    assert [number.shape for number in method.parameters()] == [(), ()]
    assert list(method.state_dict()) == ["log_variances"]
    assert repr(method) == "UW()"


def test_combining_leaves_no_graph() -> None:
    assert not UW().combine(torch.ones(2, 3), torch.ones(2)).requires_grad


@pytest.mark.parametrize("value", [-3.0, 0.0])
def test_any_loss_is_allowed(value: float) -> None:
    assert UW().loss_weights(torch.tensor([1.0, value])).tolist() == [0.5, 0.5]
