import torch

from recon.methods import STCH, Tchebycheff


def test_weights_are_the_slopes_of_the_worst_regret() -> None:
    preference, ideal = torch.tensor([0.5, 0.2, 0.3]), torch.tensor([0.0, -3.0, 1.0])
    for seed in range(10):
        losses = torch.rand(3, generator=torch.Generator().manual_seed(seed)).requires_grad_()
        (3 * (preference * (losses - ideal)).max()).backward()
        method = Tchebycheff(preference=preference.tolist(), ideal=ideal.tolist())
        torch.testing.assert_close(method.loss_weights(losses.detach()), losses.grad)


def test_only_the_worst_task_is_trained_and_plainly() -> None:
    assert Tchebycheff().loss_weights(torch.tensor([1.0, 3.0, 2.0])).tolist() == [0, 1, 0]
    assert Tchebycheff().loss_weights(torch.tensor([-5.0, -3.0])).tolist() == [0, 1]


def test_equally_bad_tasks_share_the_update() -> None:
    assert Tchebycheff().loss_weights(torch.tensor([3.0, 3.0, 2.0, 1.0])).tolist() == [0.5, 0.5, 0, 0]


def test_is_the_limit_of_the_smooth_one() -> None:
    losses = torch.tensor([1.0, 3.0, 2.9], dtype=torch.float64)
    torch.testing.assert_close(STCH(mu=1e-4).loss_weights(losses), Tchebycheff().loss_weights(losses))
