import torch
from timm import layers
from torch import nn

from recon.branching.norms import norm_layers
from recon.gradients.layers import shared_layers
from recon.models import LeNet, ResNet18


class NormedLinear(nn.Linear):
    """A linear layer with a misleading name."""


def test_the_norms_of_a_resnet_are_its_twenty_batch_norms() -> None:
    network = ResNet18(width=2)
    batch_norms = [name for name, module in network.named_modules() if isinstance(module, nn.BatchNorm2d)]
    assert norm_layers(network) == batch_norms
    assert len(batch_norms) == 20
    assert norm_layers(LeNet()) == []


def test_norms_of_all_kinds_and_of_other_libraries_count() -> None:
    kinds = [
        nn.BatchNorm1d(4),
        nn.InstanceNorm1d(4, affine=True),
        nn.GroupNorm(2, 4),
        nn.LayerNorm(4),
        nn.RMSNorm(4),
        layers.RmsNorm(4),
        layers.LayerNorm2d(4),
        layers.BatchNormAct2d(4),
        layers.FilterResponseNormTlu2d(4),
    ]
    assert norm_layers(nn.Sequential(*kinds)) == [str(place) for place in range(len(kinds))]


def test_neither_layers_named_so_nor_norms_without_parameters_nor_blocks_count() -> None:
    network = nn.Sequential(NormedLinear(2, 2), nn.BatchNorm1d(4, affine=False), layers.ConvNormAct(2, 2))
    assert norm_layers(network) == ["2.bn"]
    assert norm_layers(nn.LayerNorm(3)) == ["LayerNorm"] == list(shared_layers(nn.LayerNorm(3)))
    assert norm_layers(torch.nn.DataParallel(nn.Sequential(nn.BatchNorm1d(4)))) == ["0"]
