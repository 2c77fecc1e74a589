"""CGC against the formulas of Tang et al., RecSys 2020."""

import pytest
import torch
from torch import Tensor, nn

import recon
from recon.models import CGC, MLP, ResNet18, heads_for
from recon.tasks import classification

TASKS = ("a", "b", "c")


def branched(network: CGC) -> recon.branching.BranchedModule:
    net = recon.branch(network, network.task_specific_layers(), TASKS)
    for parameter in net.branches.parameters():
        nn.init.normal_(parameter)
    return net


def test_a_task_mixes_its_own_experts_and_the_shared_ones() -> None:
    torch.manual_seed(0)
    net = branched(CGC(lambda: MLP(6, [4]), experts=2, own=3, gate_inputs=6).double())
    x = torch.randn(7, 6, dtype=torch.float64)
    state = dict(net.named_parameters())

    def expert(name: str) -> Tensor:
        return (x @ state[f"{name}.0.weight"].T + state[f"{name}.0.bias"]).clamp(min=0)

    for task, features in net(x).items():
        selected = [expert(f"branches.{task}.own.{j}") for j in range(3)]
        selected += [expert(f"shared.experts.{j}") for j in range(2)]
        scores = (x @ state[f"branches.{task}.gate.weight"].T).exp()
        expected = sum(scores[:, [j]] * output for j, output in enumerate(selected)) / scores.sum(dim=1, keepdim=True)
        torch.testing.assert_close(features, expected)


def test_its_parameters_are_those_of_the_formulas() -> None:
    # m_s shared experts, m_k of each task, and gates of (m_k + m_s) x d.
    net = branched(CGC(lambda: MLP(6, [4]), experts=2, own=3, gate_inputs=6))
    expert = 6 * 4 + 4
    expected = 2 * expert + len(TASKS) * (3 * expert + (3 + 2) * 6)
    assert sum(parameter.numel() for parameter in net.parameters()) == expected


def test_only_shared_experts_and_the_input_layer_are_shared() -> None:
    net = branched(CGC(lambda: MLP(6, [4]), experts=2, own=1, input_layer=MLP(10, [6])))
    assert list(net.shared_layers()) == ["input_layer.0", "experts.0.0", "experts.1.0"]
    assert net.layers == ("own.0.0", "gate")


def test_experts_may_be_backbones_whose_norms_keep_statistics_of_their_own() -> None:
    torch.manual_seed(0)
    net = branched(CGC(lambda: ResNet18(width=2, features=5), experts=1, own=1, gate_inputs=36 * 36))
    net(torch.rand(4, 1, 36, 36))
    means = [means_of(net, task) for task in TASKS]
    assert not torch.equal(means[0], means[1])
    network = CGC(lambda: ResNet18(width=2, features=5), gate_inputs=36 * 36)
    assert heads_for(network, [classification("digit", 10)])["digit"].in_features == 5


def means_of(net: nn.Module, task: str) -> Tensor:
    """The running means of the first norm in a task's own expert."""
    return net.state_dict()[f"branches.{task}.own.0.bn1.running_mean"]


@pytest.mark.parametrize("name", ["experts", "own"])
def test_numbers_of_experts_are_at_least_one(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is 0; it must be at least 1"):
        CGC(lambda: MLP(6, [4]), gate_inputs=6, **{name: 0})
