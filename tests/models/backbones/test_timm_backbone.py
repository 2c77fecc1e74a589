import sys
from collections.abc import Callable

import pytest
import timm
import torch
from torch import nn

from recon.models import timm_backbone, timm_pyramid


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "resnet10t", "mobilenetv3_small_050", "lcnet_035"])
def test_num_features_is_what_it_gives(name: str) -> None:
    backbone = timm_backbone(name).eval()
    size = backbone.default_cfg["input_size"][-1]
    with torch.no_grad():
        assert backbone(torch.zeros(1, 1, size, size)).shape == (1, backbone.num_features)


def test_it_is_timms_own_module() -> None:
    reference = timm.create_model("test_resnet", num_classes=0, in_chans=3)
    backbone = timm_backbone("test_resnet", in_channels=3)
    assert type(backbone) is type(reference)
    assert list(backbone.state_dict()) == list(reference.state_dict())


def test_a_transformer_takes_the_size_of_the_images() -> None:
    assert timm_backbone("test_vit", image_size=32).eval()(torch.zeros(1, 1, 32, 32)).shape[0] == 1


def test_an_image_size_for_a_network_of_any_size_is_refused() -> None:
    with pytest.raises(ValueError, match="'test_resnet' takes images of any size; leave out image_size=36"):
        timm_backbone("test_resnet", image_size=36)


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(ValueError, match="unknown network 'resnt18' in timm; nearest: 'resnet18'"):
        timm_backbone("resnt18")


@pytest.mark.parametrize("build", [timm_backbone, timm_pyramid])
def test_without_timm_the_error_says_what_to_install(
    build: Callable[[str], nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ValueError, match=r"timm is not installed; .*: pip install -e '\.\[timm\]'"):
        build("test_resnet")
