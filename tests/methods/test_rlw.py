import torch

from recon.methods import RLW


def test_weights_are_the_softmax_of_normal_draws() -> None:
    method, losses = RLW(), torch.ones(3)
    weights = torch.stack([method.loss_weights(losses) for _ in range(4000)])
    torch.testing.assert_close(weights.sum(1), torch.ones(4000))
    differences = (weights[:, 0] / weights[:, 1]).log()  # of two standard normal numbers
    torch.testing.assert_close(differences.mean(), torch.zeros(()), rtol=0, atol=0.1)
    torch.testing.assert_close(differences.var(), torch.tensor(2.0), rtol=0, atol=0.2)


def test_weights_do_not_depend_on_the_losses_and_change_in_each_step() -> None:
    first, second = RLW(seed=1), RLW(seed=1)
    assert torch.equal(first.loss_weights(torch.ones(4)), second.loss_weights(torch.rand(4)))
    assert not torch.equal(first.loss_weights(torch.ones(4)), first.loss_weights(torch.ones(4)))
