import pytest
import torch
import torchvision
from torch import nn

from recon.conflict import read_map
from recon.models import FlatResNet18, ResNet18

BLOCKS = [f"layer{stage}.{block}" for stage in range(1, 5) for block in range(2)]
LAYERS = {
    *("conv1", "bn1", "fc"),
    *(f"{block}.{layer}" for block in BLOCKS for layer in ("conv1", "bn1", "conv2", "bn2")),
    *(f"layer{stage}.0.downsample.{layer}" for stage in range(2, 5) for layer in range(2)),
}
"""The layers of the published conflict map of this network."""


def torchvisions() -> nn.Module:
    network = torchvision.models.resnet18(num_classes=100)
    network.conv1 = nn.Conv2d(1, 64, kernel_size=7, stride=2, padding=3, bias=False)
    return network


def test_it_has_the_41_layers_of_the_published_map() -> None:
    layers = {name for name, module in ResNet18(8).named_modules() if list(module.parameters(recurse=False))}
    assert len(LAYERS) == 41
    assert layers == LAYERS


def test_at_width_64_it_is_torchvisions_resnet18_followed_by_relu() -> None:
    reference, network = torchvisions().eval(), ResNet18().eval()
    network.load_state_dict(reference.state_dict(), strict=True)
    assert sum(p.numel() for p in network.parameters()) == sum(p.numel() for p in reference.parameters())
    x = torch.randn(2, 1, 36, 36)
    torch.testing.assert_close(network(x), reference(x).relu())


def test_the_width_scales_every_stage() -> None:
    network = ResNet18(width=6, in_channels=2, features=5)
    stages = [network.layer1, network.layer2, network.layer3, network.layer4]
    assert [stage[-1].bn2.num_features for stage in stages] == [6, 12, 24, 48]
    assert network.conv1.weight.shape == (6, 2, 7, 7)
    assert network(torch.randn(2, 2, 36, 36)).shape == (2, 5)
    assert network.num_features == 5


def test_a_width_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="width is 0"):
        ResNet18(width=0)


def test_it_is_initialised_as_torchvision_does() -> None:
    torch.manual_seed(0)
    network = ResNet18(32)
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.weight.shape[0] * module.weight[0, 0].numel()
            assert module.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.1), name
        elif isinstance(module, nn.BatchNorm2d):
            assert (module.weight == 1).all() and (module.bias == 0).all(), name


def test_torch_fx_traces_it() -> None:
    network, x = ResNet18(8).eval(), torch.randn(2, 1, 36, 36)
    torch.testing.assert_close(torch.fx.symbolic_trace(network)(x), network(x))


def test_the_flat_network_gives_the_last_maps_of_torchvisions() -> None:
    torch.manual_seed(0)
    network = FlatResNet18(image_size=64).eval()
    reference = torchvision.models.resnet18().eval()
    reference.load_state_dict({**reference.state_dict(), **network.state_dict()})
    reference.avgpool = reference.fc = nn.Identity()
    x = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(network(x), reference(x))
    assert network.num_features == network(x).shape[1] == 2048


@pytest.mark.parametrize("image_size", [32, 36, 64, 178])
def test_the_flat_network_says_its_number_of_features(image_size: int) -> None:
    network = FlatResNet18(width=4, in_channels=1, image_size=image_size).eval()
    assert network(torch.zeros(1, 1, image_size, image_size)).shape == (1, network.num_features)


def test_the_flat_network_has_the_published_sizes_of_celeba() -> None:
    """43.26 MB, and 68.03 MB with the layers of the published ranking of Multi-Fashion+MNIST branched."""
    with torch.device("meta"):
        network, head = FlatResNet18(), nn.Linear(2048, 2)
    layers = {name: sum(p.numel() for p in m.parameters(recurse=False)) for name, m in network.named_modules()}
    shared = sum(layers.values()) + 40 * sum(p.numel() for p in head.parameters())
    top = read_map("multi-fashion-mnist-resnet18", severity=-0.1).top(25, severity=-0.1)
    branched = shared + 39 * sum(layers[name] for name in top)
    assert [round(4 * count / 2**20, 2) for count in (shared, branched)] == [43.26, 68.03]


def test_an_image_size_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="image_size is 0"):
        FlatResNet18(image_size=0)
