"""The order of a backward, in graphs with residual paths, tied weights and several losses."""

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from recon.gradients.order import backward_order


def leaf(*shape: int) -> Tensor:
    return torch.rand(*shape, requires_grad=True)


def test_leaves_come_in_the_order_in_which_their_gradients_are_complete() -> None:
    first, second, third = leaf(2, 2), leaf(2, 2), leaf(2, 2)
    order = backward_order([(torch.ones(1, 2) @ first @ second @ third).sum()])
    assert [reach.leaf is expected for reach, expected in zip(order.reaches, (third, second, first), strict=True)]
    assert all(reach.first == reach.last for reach in order.reaches)


def test_residual_paths_meet_only_between_blocks() -> None:
    weights = [leaf(2, 2) for _ in range(3)]
    x = torch.ones(1, 2) @ weights[0]
    for weight in weights[1:]:
        x = x + (x @ weight).tanh()
    order = backward_order([x.sum()])
    names = [stop.edge.node.name() for stop in order.bottlenecks]
    assert names == ["SumBackward0", "AddBackward0", "AddBackward0", "MmBackward0"]


def test_a_tied_leaf_is_complete_after_its_last_use_and_no_bottleneck_parts_its_uses() -> None:
    tied, between = leaf(2, 2), leaf(2, 2)
    order = backward_order([((torch.ones(1, 2) @ tied).tanh() @ between @ tied).sum()])
    reach = order.reaches[-1]
    assert reach.leaf is tied
    assert reach.first < order.reaches[0].last < reach.last
    assert all(not reach.first < stop.position <= reach.last for stop in order.bottlenecks)


def test_gradients_at_a_bottleneck_give_all_later_ones() -> None:
    weights = [leaf(3, 3) for _ in range(4)]
    x = torch.ones(2, 3)
    for weight in weights:
        x = x + (x @ weight).tanh()
    losses = [(x @ leaf(3, 1)).square().mean() for _ in range(3)]
    order = backward_order(losses)
    assert len(order.bottlenecks) >= 4
    for loss in losses:
        for stop in order.bottlenecks:
            later = [reach.leaf for reach in order.reaches if reach.last >= stop.position]
            (there,) = torch.autograd.grad(loss, [stop.edge], retain_graph=True)
            again = torch.autograd.grad([stop.edge], later, [there], retain_graph=True)
            torch.testing.assert_close(again, torch.autograd.grad(loss, later, retain_graph=True))


def test_losses_have_a_bottleneck_where_their_heads_meet_and_a_loss_may_be_a_leaf() -> None:
    shared, plain = leaf(2, 2), torch.zeros((), requires_grad=True)
    features = (torch.ones(1, 2) @ shared).tanh()
    order = backward_order([(features @ leaf(2, 1)).sum(), features.sum()])
    assert [stop.edge.node.name() for stop in order.bottlenecks] == ["TanhBackward0", "MmBackward0"]
    assert len(backward_order([plain, features.sum()]).reaches) == 2


def test_parameters_that_the_graph_hides_are_refused() -> None:
    layer = nn.Linear(2, 2)
    x = torch.ones(1, 2, requires_grad=True)
    with pytest.raises(ValueError, match="use_reentrant=False"):
        backward_order([checkpoint(layer, x, use_reentrant=True).sum()])
