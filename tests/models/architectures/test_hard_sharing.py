"""Hard sharing is the backbone, under its own layer names."""

from recon.gradients.layers import shared_layers
from recon.models import LeNet, hard_sharing


def test_every_layer_is_shared_under_its_own_name() -> None:
    backbone = LeNet()
    assert hard_sharing(backbone) is backbone
    assert list(shared_layers(hard_sharing(backbone))) == ["conv1", "conv2", "fc"]
