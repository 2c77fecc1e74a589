from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import recon
from recon.models import timm_pyramid
from recon.models.backbones.timm_pyramid import FeaturePyramid


@pytest.mark.parametrize(
    ("name", "reduction"), [("test_resnet", 4), ("test_convnext", 4), ("test_efficientnet", 4), ("test_vit", 16)]
)
def test_features_have_a_quarter_of_the_resolution_or_the_finest_there_is(name: str, reduction: int) -> None:
    network = timm_pyramid(name, channels=6)
    assert network.reduction == reduction
    assert network(torch.rand(2, 3, 160, 160)).shape == (2, 6, 160 // reduction, 160 // reduction)
    assert network.num_features == 6


def test_it_is_timms_own_network_and_a_feature_pyramid_on_normalised_images() -> None:
    torch.manual_seed(0)
    network = timm_pyramid("test_resnet", channels=6).eval()
    reference = timm.create_model("test_resnet", features_only=True).eval()
    reference.load_state_dict(network.encoder.state_dict(), strict=True)
    made_for = timm.get_pretrained_cfg("test_resnet")
    x = torch.rand(2, 3, 72, 100)
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in (made_for.mean, made_for.std))
    features: list[Tensor] = reference((x - mean) / std)
    assert [level.shape[2:] for level in features[1:]] == [(18, 25), (9, 13), (5, 7), (3, 4)]
    expected = network.lateral[3](features[4])
    for stage in (3, 2, 1):
        level = network.lateral[stage - 1](features[stage])
        expected = level + F.interpolate(expected, level.shape[2:], mode="bilinear")
    expected = network.smooth.bn1(network.smooth.conv1(expected)).relu()
    torch.testing.assert_close(network(x), expected)


class ChannelsLast(nn.Module):
    """An encoder that gives what another one gives, with the channels last."""

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.encoder, self.feature_info, self.output_fmt = encoder, encoder.feature_info, timm.layers.Format("NHWC")

    def forward(self, x: Tensor) -> list[Tensor]:
        return [features.permute(0, 2, 3, 1) for features in self.encoder(x)]


def test_features_with_channels_last_give_the_same() -> None:
    torch.manual_seed(0)
    network = timm_pyramid("test_resnet", channels=6).eval()
    other = FeaturePyramid(ChannelsLast(network.encoder), 6, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)).eval()
    other.lateral, other.smooth = network.lateral, network.smooth
    x = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(other(x), network(x))


def test_the_head_is_two_convolutions_enlarged_by_bilinear_interpolation() -> None:
    torch.manual_seed(0)
    head = timm_pyramid("test_resnet", channels=6).task_head(5)
    x = torch.randn(2, 6, 9, 7)
    expected = F.interpolate(head[1](head[0](x)), size=(36, 28), mode="bilinear", align_corners=False)
    torch.testing.assert_close(head(x), expected)
    assert [part.kernel_size for part in head[:2]] == [(3, 3), (1, 1)]


def test_images_of_other_than_three_channels_are_taken_as_they_are() -> None:
    network = timm_pyramid("test_resnet", in_channels=2, channels=6)
    x = torch.rand(2, 2, 32, 32)
    assert torch.equal(network.images(x), x)
    assert network(x).shape == (2, 6, 8, 8)


def test_a_transformer_takes_the_size_of_the_images() -> None:
    network = timm_pyramid("vit_tiny_patch16_224", channels=6, image_size=(32, 64))
    assert network(torch.rand(1, 3, 32, 64)).shape == (1, 6, 2, 4)


def test_an_image_size_for_a_network_of_any_size_is_refused() -> None:
    with pytest.raises(ValueError, match="'test_resnet' takes images of any size; leave out image_size=36"):
        timm_pyramid("test_resnet", image_size=36)


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(ValueError, match="unknown network 'resnt18' in timm; nearest: 'resnet18'"):
        timm_pyramid("resnt18")


def test_images_that_do_not_fit_are_refused_also_when_branched() -> None:
    network = timm_pyramid("test_resnet", channels=6)
    net = recon.branch(network, ["smooth.conv1"], ("segmentation", "depth"))
    for each in (network, net):
        with pytest.raises(ValueError, match="images are 64 x 50; this network needs multiples of 4, such as 64 x 48"):
            each(torch.rand(2, 3, 64, 50))


def test_pretrained_weights_are_asked_of_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    create, asked = timm.create_model, []

    def record(name: str, *, pretrained: bool, **options: Any) -> nn.Module:
        asked.append((name, pretrained))
        return create(name, **options)

    monkeypatch.setattr(timm, "create_model", record)
    timm_pyramid("test_resnet", pretrained=True)
    assert asked == [("test_resnet", True)]


def test_pretrained_weights_for_another_number_of_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="in_channels is 1; pretrained weights are for 3 channels"):
        timm_pyramid("test_resnet", in_channels=1, pretrained=True)
