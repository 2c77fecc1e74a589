"""Perturbed evaluations happen elsewhere, and leave no trace."""

import pytest
import torch
from torch import nn

from recon.engine.perturbation import perturbed


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def state(net: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in net.state_dict().items()}


def test_parameters_move_and_come_back_bit_by_bit() -> None:
    net = network()
    before, parameters = state(net), list(net.parameters())
    steps = [torch.full_like(p, 1 / 3) for p in parameters]
    with perturbed(parameters, steps, net):
        torch.testing.assert_close(net[0].weight, before["0.weight"] + 1 / 3)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_running_statistics_of_every_module_that_ran_come_back() -> None:
    backbone, head = network(), nn.BatchNorm1d(2)
    before = state(backbone) | state(head)
    buffers = list(backbone.buffers())
    with perturbed([], [], backbone):
        head(backbone(torch.randn(5, 3))).sum().backward()
        assert head.num_batches_tracked == 1
        assert not torch.equal(backbone[1].running_mean, before["1.running_mean"])
    after = backbone.state_dict() | head.state_dict()
    assert all(torch.equal(value, before[name]) for name, value in after.items())
    assert all(a is b for a, b in zip(buffers, backbone.buffers(), strict=True))
    head(backbone(torch.randn(5, 3)))
    assert head.num_batches_tracked == 1


def test_an_error_inside_leaves_no_trace_either() -> None:
    net = network()
    before, parameters = state(net), list(net.parameters())
    with pytest.raises(ZeroDivisionError), perturbed(parameters, [torch.ones_like(p) for p in parameters], net):
        net(torch.randn(5, 3))
        raise ZeroDivisionError
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_a_gradient_can_be_taken_at_the_perturbed_parameters() -> None:
    x = nn.Parameter(torch.tensor([1.0, 2.0]))
    with perturbed([x], [torch.tensor([0.5, 0.0])], nn.Module()):
        x.pow(3).sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, torch.tensor([6.75, 12.0]))
    assert x.tolist() == [1.0, 2.0]


def test_running_statistics_come_back_from_code_that_runs_no_hooks() -> None:
    net = network()
    before = state(net)
    with perturbed([], [], net):
        net[1].forward(net[0](torch.randn(5, 3)))  # as in a compiled network
        assert net[1].num_batches_tracked == 1
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_autocast_does_not_go_on_with_weights_that_it_has_cast() -> None:
    net, x = nn.Linear(3, 1, bias=False), torch.ones(1, 3)
    with torch.autocast("cpu", torch.bfloat16):
        before = net(x).item()
        with perturbed([net.weight], [torch.full_like(net.weight, 10.0)], net):
            assert net(x).item() == pytest.approx(before + 30, rel=0.02)
        assert net(x).item() == before
