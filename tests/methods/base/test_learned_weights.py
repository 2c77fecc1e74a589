import pytest
import torch
from torch import nn

from recon.methods.base.learned_weights import LearnedWeights


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_logits_move_as_torchs_adam_moves_them(weight_decay: float) -> None:
    ours = LearnedWeights(3, lr=0.1, weight_decay=weight_decay)
    logits = nn.Parameter(torch.zeros(3, dtype=torch.float64))
    adam = torch.optim.Adam([logits], lr=0.1, weight_decay=weight_decay)
    for seed in range(20):
        slope = torch.randn(3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        ours.descend(slope, left_out=torch.zeros(3, dtype=torch.bool))
        adam.zero_grad()
        (logits.softmax(0) @ slope).backward()
        adam.step()
        torch.testing.assert_close(ours(), logits.softmax(0).detach())


def test_a_task_that_is_left_out_stands_still_and_the_others_move_as_without_it() -> None:
    method, others = LearnedWeights(3, lr=0.1, weight_decay=0.1), LearnedWeights(2, lr=0.1, weight_decay=0.1)
    for seed in range(5):
        slope = torch.randn(3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        slope[1] = torch.inf  # the slope of a task without loss
        method.descend(slope, left_out=torch.tensor([False, True, False]))
        others.descend(slope[[0, 2]], left_out=torch.tensor([False, False]))
    assert torch.equal(method.logits[[0, 2]], others.logits)
    assert [value[1].item() for value in method.buffers()] == [0, 0, 0, 0]


def test_weights_start_equal_and_have_no_learnable_parameters() -> None:
    assert LearnedWeights(4, lr=0.1)().tolist() == [0.25] * 4
    assert list(LearnedWeights(4, lr=0.1).parameters()) == []
