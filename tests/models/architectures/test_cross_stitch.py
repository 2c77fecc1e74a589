"""Cross-stitch networks against the formulas of Misra et al., CVPR 2016, with a network written out."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import recon
from recon.gradients.layers import shared_layers
from recon.models import LTB, CrossStitch, LeNet, ResNet18, heads_for
from recon.tasks import classification

TASKS = ["a", "b", "c"]


def written_out(net: nn.Module, stitch: list[Tensor], x: Tensor) -> dict[str, Tensor]:
    """Three LeNets whose activations are mixed after both convolutions; ``stitch`` is (K, K) or (K, K, C) each."""
    state = dict(net.named_parameters())
    outputs = [x] * 3
    for layer, alpha in zip(("conv1", "conv2"), stitch, strict=True):
        own = [
            F.conv2d(before, state[f"networks.{task}.{layer}.weight"], state[f"networks.{task}.{layer}.bias"])
            for task, before in zip(TASKS, outputs, strict=True)
        ]
        rows = [
            sum((alpha[i, j] if alpha.ndim == 2 else alpha[i, j, :, None, None]) * own[j] for j in range(3))
            for i in range(3)
        ]
        outputs = [F.max_pool2d(F.relu(row), 2) for row in rows]
    return {
        task: F.relu(out.flatten(1) @ state[f"networks.{task}.fc.weight"].T + state[f"networks.{task}.fc.bias"])
        for task, out in zip(TASKS, outputs, strict=True)
    }


@pytest.mark.parametrize("stages", [["conv1", "conv2"], {"conv1": 10, "conv2": 20}], ids=["scalars", "channels"])
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_its_features_are_those_of_the_formulas(stages: list[str] | dict[str, int], training: bool) -> None:
    torch.manual_seed(0)
    net = CrossStitch(lambda: LeNet(features=5), stages).for_tasks(TASKS).double().train(training)
    for unit in net.units:
        nn.init.normal_(unit.weight)
    x = torch.rand(4, 1, 36, 36, dtype=torch.float64)
    torch.testing.assert_close(net(x), written_out(net, [unit.weight for unit in net.units], x))


def test_its_parameters_are_those_of_the_formulas() -> None:
    single = sum(parameter.numel() for parameter in LeNet().parameters())
    scalars = CrossStitch(LeNet, ["conv1", "conv2"]).for_tasks(TASKS)
    channels = CrossStitch(LeNet, {"conv1": 10, "conv2": 20}).for_tasks(TASKS)
    assert parameters(scalars) == 3 * single + 2 * 3 * 3
    assert parameters(channels) == 3 * single + 3 * 3 * (10 + 20)


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_units_start_as_published_and_keep_the_scale_of_activations() -> None:
    [two] = CrossStitch(LeNet, ["conv1"]).for_tasks(["a", "b"]).units
    torch.testing.assert_close(two.weight.data, torch.tensor([[0.9, 0.1], [0.1, 0.9]]))
    [three] = CrossStitch(LeNet, {"conv1": 10}, same=0.8).for_tasks(TASKS).units
    assert three.weight.shape == (3, 3, 10)
    torch.testing.assert_close(three.weight.sum(dim=1), torch.ones(3, 10))
    assert (three.weight[range(3), range(3)] == 0.8).all()


def test_one_task_has_the_backbone_alone() -> None:
    net = CrossStitch(LeNet, {"conv1": 10}).for_tasks(["a"])
    x = torch.rand(2, 1, 36, 36)
    torch.testing.assert_close(net(x), {"a": net.networks["a"](x)})


def test_networks_are_shared_and_units_are_not() -> None:
    net = CrossStitch(LeNet, ["conv1"]).for_tasks(["a", "b"])
    assert list(shared_layers(net)) == [
        f"networks.{task}.{layer}" for task in "ab" for layer in ("conv1", "conv2", "fc")
    ]


def test_units_get_the_sum_of_the_tasks_gradients_without_a_warning(recwarn: pytest.WarningsRecorder) -> None:
    torch.manual_seed(0)
    net = CrossStitch(LeNet, ["conv1", "conv2"]).for_tasks(TASKS)
    x = torch.rand(4, 1, 36, 36)
    torch.stack([features.square().mean() * (n + 1) for n, features in enumerate(net(x).values())]).sum().backward()
    expected = [unit.weight.grad for unit in net.units]
    net.zero_grad()
    losses = {task: features.square().mean() * (n + 1) for n, (task, features) in enumerate(net(x).items())}
    recon.backward(losses, net, recon.create_method("mgda"))
    torch.testing.assert_close([unit.weight.grad for unit in net.units], expected)
    assert not recwarn.list


def test_a_branched_layer_has_a_copy_for_each_task() -> None:
    torch.manual_seed(0)
    plain = CrossStitch(lambda: ResNet18(width=2), ["layer1", "layer2"]).for_tasks(TASKS).double().eval()
    layers = ["networks.a.layer1.0.conv1", "networks.b.fc"]
    net = recon.branch(plain, layers, TASKS)
    for task in TASKS:
        for parameter in net.branches[task].parameters():
            nn.init.normal_(parameter, std=0.1)
    x = torch.rand(2, 1, 36, 36, dtype=torch.float64)
    outputs = net(x)
    for task in TASKS:
        torch.testing.assert_close(outputs[task][task], net.extract(task)(x)[task])
        torch.testing.assert_close(net.run(task, x)[task], outputs[task][task])
    assert not torch.equal(outputs["a"]["b"], outputs["b"]["b"])


def test_each_task_starts_from_weights_of_its_own_and_from_those_of_a_given_module() -> None:
    fresh = CrossStitch(LeNet, ["conv1"]).for_tasks(["a", "b"])
    assert not torch.equal(fresh.networks["a"].fc.weight, fresh.networks["b"].fc.weight)
    pretrained = LeNet()
    copied = CrossStitch(pretrained, ["conv1"]).for_tasks(["a", "b"])
    for task in ("a", "b"):
        assert copied.networks[task] is not pretrained
        assert torch.equal(copied.networks[task].fc.weight, pretrained.fc.weight)


def test_its_heads_are_those_of_the_backbone() -> None:
    plan = CrossStitch(lambda: LeNet(features=7), ["conv1"])
    for network in (plan, plan.for_tasks(["a", "b"])):
        assert heads_for(network, [classification("digit", 10)])["digit"].in_features == 7


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown stage 'layer5' in ResNet18; nearest: 'layer4'"):
        CrossStitch(lambda: ResNet18(width=2), ["layer5"])
    with pytest.raises(ValueError, match="stages is empty"):
        CrossStitch(LeNet, [])
    with pytest.raises(ValueError, match=r"same is 1\.5; it must be from 0 to 1"):
        CrossStitch(LeNet, ["conv1"], same=1.5)
    with pytest.raises(ValueError, match="stage 'conv1' has 0 channels"):
        CrossStitch(LeNet, {"conv1": 0})
    net = CrossStitch(LeNet, {"conv1": 11}).for_tasks(["a", "b"])
    with pytest.raises(ValueError, match="stage 'conv1' has 10 channels, not 11"):
        net(torch.rand(2, 1, 36, 36))


@pytest.mark.parametrize("architecture", [CrossStitch, LTB])
def test_the_name_of_one_stage_is_refused(architecture: type[CrossStitch | LTB]) -> None:
    with pytest.raises(ValueError, match=r"stages is the name 'conv1'; give a list of names: \['conv1'\]"):
        architecture(LeNet, "conv1")


@pytest.mark.parametrize("architecture", [CrossStitch, LTB])
def test_the_backbone_may_write_into_what_follows_a_stage(architecture: type[CrossStitch | LTB]) -> None:
    plain = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    writing = nn.Sequential(plain[0], nn.ReLU(inplace=True), plain[2])
    gradients = []
    for backbone in (plain, writing):
        network = architecture(backbone, ["0"]).for_tasks(["a", "b"])
        torch.manual_seed(0)
        sum(own.sum() for own in network(torch.ones(5, 4)).values()).backward()
        gradients.append([parameter.grad for parameter in network.parameters()])
    torch.testing.assert_close(*gradients)
