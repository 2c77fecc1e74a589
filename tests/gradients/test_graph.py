"""What a loss reaches, against what its backward gives a gradient."""

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from recon.gradients.graph import reached_leaves


def test_the_leaves_reached_are_those_that_a_backward_gives_a_gradient() -> None:
    net = nn.ModuleDict({"used": nn.Linear(2, 2), "frozen": nn.Linear(2, 2), "idle": nn.Linear(2, 2)})
    net["frozen"].requires_grad_(False)
    x = torch.ones(1, 2)
    hidden = net["used"](x)
    loss = (net["frozen"](hidden) * hidden).sum()
    leaves = reached_leaves(loss)
    loss.backward()
    assert len(leaves) == len(set(leaves))
    assert set(leaves) == {p for p in net.parameters() if p.grad is not None}


def test_what_is_reached_only_through_a_tensor_can_be_left_out() -> None:
    trunk, head = nn.Linear(2, 4), nn.Linear(2, 1)
    first, second = trunk(torch.ones(1, 2)).chunk(2, dim=1)
    assert set(reached_leaves(head(first).sum(), short_of=first)) == set(head.parameters())
    # The other output of the same operation is another way to the trunk.
    both = head(first).sum() + second.sum()
    assert set(reached_leaves(both, short_of=first)) == {*head.parameters(), *trunk.parameters()}


def test_a_parameter_as_loss_reaches_itself() -> None:
    parameter = nn.Parameter(torch.ones(()))
    assert reached_leaves(parameter * 1) == [parameter]


def test_a_checkpoint_that_hides_its_parameters_is_refused() -> None:
    layer, x = nn.Linear(2, 2), torch.ones(1, 2, requires_grad=True)
    loss = checkpoint(layer, x, use_reentrant=True).sum()
    with pytest.raises(ValueError, match="give it use_reentrant=False"):
        reached_leaves(loss)
    assert set(reached_leaves(checkpoint(layer, x, use_reentrant=False).sum())) == {x, *layer.parameters()}
