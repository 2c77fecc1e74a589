"""LTB against LibMTL's rule: a stage goes on from one of all columns, drawn by a Gumbel-softmax."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recon.gradients.layers import shared_layers
from recon.models import LTB, LeNet
from recon.models.architectures.ltb import LTBNetwork

TASKS = ["a", "b", "c"]


def network() -> LTBNetwork:
    torch.manual_seed(0)
    return LTB(lambda: LeNet(features=5), ["conv1", "conv2"]).for_tasks(TASKS).double()


def written_out(net: LTBNetwork, choices: list[Tensor], x: Tensor) -> dict[str, Tensor]:
    state = dict(net.named_parameters())
    outputs = [x] * 3
    for layer, choice in zip(("conv1", "conv2"), choices, strict=True):
        own = [
            F.conv2d(before, state[f"networks.{task}.{layer}.weight"], state[f"networks.{task}.{layer}.bias"])
            for task, before in zip(TASKS, outputs, strict=True)
        ]
        children = [sum(choice[i, j] * own[j] for j in range(3)) for i in range(3)]
        outputs = [F.max_pool2d(F.relu(child), 2) for child in children]
    return {
        task: F.relu(out.flatten(1) @ state[f"networks.{task}.fc.weight"].T + state[f"networks.{task}.fc.bias"])
        for task, out in zip(TASKS, outputs, strict=True)
    }


def test_in_training_it_draws_parents_at_the_epochs_temperature() -> None:
    net = network()
    for unit in net.units:
        nn.init.normal_(unit.logits)
        unit.begin_epoch(3, 10)
    x = torch.rand(4, 1, 36, 36, dtype=torch.float64)
    torch.manual_seed(5)
    features = net(x)
    torch.manual_seed(5)
    choices = [F.gumbel_softmax(unit.logits, tau=10 / 20 / math.sqrt(4), hard=True) for unit in net.units]
    expected = written_out(net, choices, x)
    torch.testing.assert_close(features, expected)
    logits = [unit.logits for unit in net.units]
    grads = [
        torch.autograd.grad(torch.stack([own.sum() for own in result.values()]).sum(), logits)
        for result in (features, expected)
    ]
    torch.testing.assert_close(*grads)
    assert any(grad.abs().max() > 0 for grad in grads[0])


def test_it_warms_up_with_the_sum_of_all_parents() -> None:
    net = network()
    for unit in net.units:
        unit.begin_epoch(1, 200)
    x = torch.rand(4, 1, 36, 36, dtype=torch.float64)
    torch.testing.assert_close(net(x), written_out(net, [torch.ones(3, 3)] * 2, x))
    for unit in net.units:
        unit.begin_epoch(2, 200)
        assert unit.temperature.item() == pytest.approx(200 / 20 / math.sqrt(3))


def test_in_evaluation_it_goes_on_from_the_likeliest_parents() -> None:
    net = network().eval()
    for unit, parents in zip(net.units, ([2, 2, 0], [0, 0, 0]), strict=True):
        nn.init.zeros_(unit.logits)
        unit.logits.data[range(3), parents] = 1.0
    assert net.parents() == {
        "conv1": {"a": "c", "b": "c", "c": "a"},
        "conv2": {"a": "a", "b": "a", "c": "a"},
    }
    x = torch.rand(4, 1, 36, 36, dtype=torch.float64)
    choices = [F.one_hot(unit.logits.argmax(dim=1), 3).double() for unit in net.units]
    torch.testing.assert_close(net(x), written_out(net, choices, x))


def test_its_parameters_are_those_of_the_columns_and_a_square_for_each_stage() -> None:
    net = network()
    single = sum(parameter.numel() for parameter in LeNet(features=5).parameters())
    assert sum(parameter.numel() for parameter in net.parameters()) == 3 * single + 2 * 3 * 3
    assert list(shared_layers(net)) == [
        f"networks.{task}.{layer}" for task in "abc" for layer in ("conv1", "conv2", "fc")
    ]


def test_its_temperature_is_in_checkpoints() -> None:
    trained, fresh = network(), network()
    trained.units[0].begin_epoch(3, 10)
    fresh.load_state_dict(trained.state_dict())
    assert fresh.units[0].temperature == trained.units[0].temperature != 1


def test_an_unknown_number_of_epochs_is_refused() -> None:
    with pytest.raises(ValueError, match="set the trainer's max_epochs"):
        network().units[0].begin_epoch(0, -1)
    with pytest.raises(ValueError, match="unknown stage 'conv3' in LeNet; nearest"):
        LTB(LeNet, ["conv3"])
