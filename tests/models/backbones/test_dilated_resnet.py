from typing import Any
from urllib.error import URLError

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

import recon
from recon.models import DilatedResNet50

MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)


def torchvisions() -> nn.Module:
    return torchvision.models.resnet50(replace_stride_with_dilation=[False, True, True])


def test_at_width_64_it_is_torchvisions_on_normalised_images() -> None:
    torch.manual_seed(0)
    reference, network = torchvisions().eval(), DilatedResNet50().eval()
    del reference.fc
    network.load_state_dict(reference.state_dict(), strict=True)
    stages = list(reference.children())[:-1]  # without the pooling over the whole image
    x = torch.rand(1, 3, 48, 64)
    features = network(x)
    assert features.shape == (1, 2048, 6, 8) == (1, network.num_features, 6, 8)
    torch.testing.assert_close(features, nn.Sequential(*stages)((x - MEAN) / STD))


def test_the_width_scales_every_stage() -> None:
    network = DilatedResNet50(width=3)
    stages = [network.layer1, network.layer2, network.layer3, network.layer4]
    assert [stage[-1].bn3.num_features for stage in stages] == [12, 24, 48, 96]
    assert [len(stage) for stage in stages] == [3, 4, 6, 3]
    assert network.num_features == 96
    assert network(torch.rand(2, 3, 32, 40)).shape == (2, 96, 4, 5)


def test_layers_and_their_dilation_are_torchvisions_at_any_width() -> None:
    with torch.device("meta"):
        reference, network = torchvisions(), DilatedResNet50(width=2)
    assert _convolutions(network) == _convolutions(reference)
    assert set(network.state_dict()) == set(reference.state_dict()) - {"fc.weight", "fc.bias"}


def _convolutions(network: nn.Module) -> list[tuple[Any, ...]]:
    return [
        (name, module.kernel_size, module.stride, module.padding, module.dilation)
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d)
    ]


def test_pretrained_weights_are_torchvisions_loaded_as_tensors_only(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    published = torchvisions().state_dict()
    asked: list[tuple[str, dict[str, Any]]] = []

    def download(url: str, **options: Any) -> dict[str, Tensor]:
        asked.append((url, options))
        return published

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", download)
    network = DilatedResNet50(pretrained=True)
    [(url, options)] = asked
    assert url == "https://download.pytorch.org/models/resnet50-0676ba61.pth"
    assert options["weights_only"] and options["check_hash"]
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, published[name]), name


def test_pretrained_weights_of_another_width_are_refused() -> None:
    with pytest.raises(ValueError, match="width is 32; pretrained weights are for width 64"):
        DilatedResNet50(width=32, pretrained=True)


def test_a_width_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="width is 0"):
        DilatedResNet50(width=0)


def test_an_image_that_is_no_multiple_of_eight_is_refused_also_when_branched() -> None:
    network = DilatedResNet50(width=1)
    net = recon.branch(network, ["layer4.2.conv1"], ("segmentation", "depth"))
    for each in (network, net):
        with pytest.raises(ValueError, match="images are 36 x 64; this network needs multiples of 8, such as 32 x 64"):
            each(torch.rand(2, 3, 36, 64))


def test_the_head_is_deeplabs_enlarged_by_bilinear_interpolation() -> None:
    torch.manual_seed(0)
    head = DilatedResNet50(width=1).task_head(5).eval()
    deeplab = torchvision.models.segmentation.deeplabv3.DeepLabHead(32, 5).eval()
    deeplab.load_state_dict(head.state_dict(), strict=True)
    x = torch.randn(2, 32, 4, 6)
    expected = F.interpolate(deeplab(x), size=(32, 48), mode="bilinear", align_corners=False)
    torch.testing.assert_close(head(x), expected)


def test_it_is_initialised_as_torchvision_does() -> None:
    torch.manual_seed(0)
    for name, module in DilatedResNet50(16).named_modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.weight.shape[0] * module.weight[0, 0].numel()
            assert module.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.15), name
        elif isinstance(module, nn.BatchNorm2d):
            assert (module.weight == 1).all() and (module.bias == 0).all(), name


def test_weights_that_cannot_be_downloaded_are_named_with_where_to_put_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def download(url: str, **options: Any) -> dict[str, Tensor]:
        raise URLError("no route")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", download)
    with pytest.raises(OSError, match=r"resnet50-0676ba61.pth \(no route\); put the file into .*checkpoints"):
        DilatedResNet50(pretrained=True)
