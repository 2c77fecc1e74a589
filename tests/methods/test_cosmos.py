import pytest
import torch
import torchjd.scalarization

from recon.methods import COSMOS


@pytest.mark.parametrize("tasks", [2, 3, 5, 10, 40])
@pytest.mark.parametrize("penalty", [0, 0.01, 8])
def test_weights_are_the_slopes_of_torchjds(tasks: int, penalty: float) -> None:
    generator = torch.Generator().manual_seed(tasks)
    losses, preference = torch.rand(2, tasks, dtype=torch.float64, generator=generator)
    leaves = losses.clone().requires_grad_()
    torchjd.scalarization.COSMOS(penalty, preference)(leaves).backward()
    method = COSMOS(penalty=penalty, preference=preference.tolist())
    torch.testing.assert_close(method.loss_weights(losses), leaves.grad)


def test_losses_in_the_preferred_ratio_are_summed_by_it() -> None:
    losses = torch.tensor([0.2, 0.6], dtype=torch.float64)
    weights = COSMOS(preference=[0.25, 0.75]).loss_weights(losses)
    torch.testing.assert_close(weights, torch.tensor([0.25, 0.75]).double())
    assert COSMOS().loss_weights(torch.zeros(4)).tolist() == [0.25] * 4


def test_a_penalty_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match="cosmos: penalty must be a finite number >= 0, got -1"):
        COSMOS(penalty=-1)
