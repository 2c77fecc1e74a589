from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

import recon
from recon.models import MobileNetV2

MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
OUTPUTS = {"segmentation": 21, "parts": 7, "normals": 3, "saliency": 1}
"""The tasks of the Recon paper on PASCAL-Context."""


def torchvisions() -> nn.Module:
    return torchvision.models.mobilenet_v2()


def count(*modules: nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


def test_it_has_the_published_sizes() -> None:
    with torch.device("meta"):
        network = MobileNetV2()
        heads = [network.task_head(outputs) for outputs in OUTPUTS.values()]
    joint = count(network, *heads)
    single = len(heads) * count(network) + count(*heads)
    assert [round(4 * number / 2**20, 2) for number in (joint, single)] == [8.04, 30.09]
    layers = [name for name, module in network.named_modules() if list(module.parameters(recurse=False))]
    assert len(layers) == 108


def test_its_first_layers_are_torchvisions_on_normalised_images_dilated_at_the_end() -> None:
    torch.manual_seed(0)
    reference, network = torchvisions().eval(), MobileNetV2().eval()
    network.features.load_state_dict(reference.features[:-1].state_dict(), strict=True)
    x = torch.rand(1, 3, 64, 96)
    fine = reference.features[:4]((x - MEAN) / STD)
    torch.testing.assert_close(network(x)[:, :24], fine)
    # At the places that the stride would keep, the block that no longer goes down gives the same.
    before = reference.features[4:14](fine)
    torch.testing.assert_close(network.features[14](before)[..., ::2, ::2], reference.features[14](before))
    convolutions = [m for block in network.features[15:] for m in block.modules() if isinstance(m, nn.Conv2d)]
    assert [(m.dilation, m.padding) for m in convolutions if m.groups > 1] == [((2, 2), (2, 2))] * 3
    assert network.features(x).shape == (1, 320, 4, 6)


def test_features_are_fine_ones_beside_those_of_the_aspp_enlarged() -> None:
    torch.manual_seed(0)
    network = MobileNetV2(width_multiplier=0.5).eval()
    x = torch.rand(2, 3, 32, 48)
    features = network(x)
    assert features.shape == (2, network.num_features, 8, 12)
    coarse = network.features(network.images(x))
    pooled = network.aspp.whole(coarse.mean((2, 3), keepdim=True)).expand(-1, -1, 2, 3)
    joined = network.aspp.project(torch.cat([network.aspp.local(coarse), pooled], 1))
    expected = nn.functional.interpolate(joined, size=(8, 12), mode="bilinear", align_corners=False)
    torch.testing.assert_close(features[:, -128:], expected)
    assert network.task_head(5).eval()(features).shape == (2, 5, 32, 48)


def test_a_head_takes_fine_and_coarse_features_apart() -> None:
    torch.manual_seed(0)
    network = MobileNetV2()
    head = network.task_head(3).eval()
    decoder = head[0]
    features = torch.rand(1, 152, 4, 4)
    reduced = decoder.reduce(features[:, :24])
    assert reduced.shape[1] == 48
    depthwise = [m for m in decoder.modules() if isinstance(m, nn.Conv2d) and m.groups > 1]
    assert [m.groups for m in depthwise] == [176, 128]
    expected = decoder.predict(decoder.separable2(decoder.separable1(torch.cat([reduced, features[:, 24:]], 1))))
    torch.testing.assert_close(head(features), nn.functional.interpolate(expected, scale_factor=4, mode="bilinear"))


def test_pretrained_weights_are_torchvisions_loaded_as_tensors_only(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    published = torchvisions().state_dict()
    asked: list[tuple[str, dict[str, Any]]] = []

    def download(url: str, **options: Any) -> dict[str, Tensor]:
        asked.append((url, options))
        return published

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", download)
    network = MobileNetV2(pretrained=True)
    [(url, options)] = asked
    assert url == "https://download.pytorch.org/models/mobilenet_v2-b0353104.pth"
    assert options["weights_only"] and options["check_hash"]
    for name, tensor in network.features.state_dict(prefix="features.").items():
        assert torch.equal(tensor, published[name]), name


def test_branched_layers_give_each_task_what_its_own_network_would() -> None:
    torch.manual_seed(0)
    network = MobileNetV2(width_multiplier=0.25).eval()
    branched = recon.branch(network, layers=["features.2.conv.0.0", "aspp.local.1"], tasks=["a", "b"]).eval()
    with torch.no_grad():
        for name, parameter in branched.named_parameters():
            if name.endswith(".b") or ".b." in name:
                parameter.add_(0.1)
    x = torch.rand(2, 3, 32, 32)
    features = branched(x)
    for task in ("a", "b"):
        torch.testing.assert_close(features[task], branched.extract(task).eval()(x))
    torch.testing.assert_close(features["a"], network(x))
    assert not torch.allclose(features["b"], features["a"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width_multiplier": 0.0}, "width_multiplier is 0.0; it must be positive"),
        ({"width_multiplier": float("nan")}, "width_multiplier is nan; it must be positive"),
        ({"width_multiplier": 0.5, "pretrained": True}, "width_multiplier is 0.5; pretrained weights are for 1"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MobileNetV2(**options)


def test_images_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match="images are 40 x 32; this network needs multiples of 16"):
        MobileNetV2(width_multiplier=0.25)(torch.zeros(1, 3, 40, 32))
