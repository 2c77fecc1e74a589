"""MTAN around a ResNet against the network of several tasks written out, as LibMTL has it."""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck

import recon
from recon.models import MTAN, DilatedResNet50, LeNet, ResNet18, heads_for
from recon.tasks import classification, depth

TASKS = ("a", "b")


def written_out(net: recon.branching.BranchedModule, x: Tensor) -> dict[str, Tensor]:
    """The attention over the four stages of a ResNet; the modules are those of the network."""
    backbone = net.extract("a").backbone
    h = backbone.images(x) if hasattr(backbone, "images") else x
    h = backbone.maxpool(backbone.relu(backbone.bn1(backbone.conv1(h))))
    early, late = [], []
    for stage in (backbone.layer1, backbone.layer2, backbone.layer3, backbone.layer4):
        early.append(stage[:-1](h))
        h = stage[-1](early[-1])
        late.append(h)
    attended = {}
    for task in TASKS:
        path = net.extract(task)
        chosen = path.masks[0](early[0]) * late[0]
        for i in (1, 2, 3):
            chosen = path.blocks[i - 1](chosen)
            if chosen.shape[-2:] != early[i].shape[-2:]:
                chosen = F.max_pool2d(chosen, kernel_size=2, stride=2)
            chosen = path.masks[i](torch.cat([early[i], chosen], dim=1)) * late[i]
        attended[task] = chosen
    if isinstance(backbone, DilatedResNet50):
        return attended
    return {task: F.relu(backbone.fc(backbone.avgpool(h).flatten(1))) for task, h in attended.items()}


@pytest.mark.parametrize("backbone", ["resnet18", "dilated_resnet50"])
def test_branched_at_its_masks_it_is_the_network_written_out(backbone: str) -> None:
    torch.manual_seed(0)
    if backbone == "resnet18":
        network = MTAN(ResNet18(width=4, in_channels=3), {f"layer{i + 1}": 4 * 2**i for i in range(4)}, expansion=1)
    else:
        network = MTAN(DilatedResNet50(width=2), {f"layer{i + 1}": 8 * 2**i for i in range(4)})
    net = recon.branch(network.double().eval(), network.task_specific_layers(), TASKS)
    for task in TASKS:
        for parameter in net.branches[task].parameters():
            nn.init.normal_(parameter, std=0.3)
    x = torch.rand(2, 3, 64, 64, dtype=torch.float64)
    torch.testing.assert_close(net(x), written_out(net, x))


def test_masks_are_task_specific_and_backbone_and_blocks_are_shared() -> None:
    network = MTAN(ResNet18(width=4), {"layer1": 4, "layer3": 16}, expansion=1)
    net = recon.branch(network, network.task_specific_layers(), TASKS)
    assert set(net.layers) == {f"masks.{i}.{layer}" for i in range(2) for layer in ("conv1", "bn1", "conv2", "bn2")}
    assert {name.split(".")[0] for name in net.shared_layers()} == {"backbone", "blocks"}


def test_its_parameters_for_resnet50_are_those_of_the_formulas() -> None:
    with torch.device("meta"):
        backbone = DilatedResNet50()
        network = MTAN(backbone, {"layer1": 256, "layer2": 512, "layer3": 1024, "layer4": 2048})
        net = recon.branch(network, network.task_specific_layers(), ["a", "b", "c"])
    channels = [256, 512, 1024, 2048]
    masks = 0
    for i, c in enumerate(channels):
        inputs, between = (c if i == 0 else 2 * c), c // 4
        masks += inputs * between + between + 2 * between + between * c + c + 2 * c
    blocks = 0
    for c, following in pairwise(channels):
        narrow = following // 4
        blocks += c * narrow + 9 * narrow**2 + narrow * following + 2 * (narrow + narrow + following)
        blocks += c * following + 2 * following
    assert count(net) == count(backbone) + blocks + 3 * masks


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_blocks_of_the_path_are_of_the_backbones_kind() -> None:
    assert isinstance(MTAN(ResNet18(width=4), {"layer1": 4, "layer2": 8}, 1).blocks[0], BasicBlock)
    assert isinstance(MTAN(DilatedResNet50(width=2), {"layer1": 8, "layer2": 16}).blocks[0], Bottleneck)


def test_its_heads_are_those_of_the_backbone() -> None:
    vectors = MTAN(ResNet18(width=4), {"layer1": 4}, expansion=1)
    assert heads_for(vectors, [classification("digit", 10)])["digit"].in_features == 100
    maps = MTAN(DilatedResNet50(width=2), {"layer4": 64})
    head = heads_for(maps, [depth("depth")])["depth"]
    assert head(maps(torch.rand(2, 3, 32, 32))).shape == (2, 1, 32, 32)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown stage 'layer5' in ResNet18; nearest"):
        MTAN(ResNet18(width=4), {"layer5": 4}, expansion=1)
    with pytest.raises(ValueError, match="stage 'conv1' of LeNet is a Conv2d; attention needs"):
        MTAN(LeNet(), {"conv1": 10}, expansion=1)
    with pytest.raises(ValueError, match="stage 'layer1' has 6 channels and expansion is 4"):
        MTAN(DilatedResNet50(width=2), {"layer1": 6})
    with pytest.raises(ValueError, match="stages is empty"):
        MTAN(LeNet(), {})
    with pytest.raises(ValueError, match="stages is 'layer1'; give the channels of each stage's outputs"):
        MTAN(ResNet18(width=4), "layer1")
