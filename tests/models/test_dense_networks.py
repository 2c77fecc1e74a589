"""What all networks for dense prediction promise."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from separate_copies import differences, some_layers, still
from torch import nn

import recon
from recon.gradients.layers import shared_layers
from recon.models import DilatedResNet50, SegNet, SegNetMTAN, heads_for, timm_pyramid
from recon.tasks.per_pixel import depth, segmentation

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "segnet": lambda: SegNet(4),
    "mtan": lambda: SegNetMTAN(4),
    "dilated_resnet50": lambda: DilatedResNet50(2),
    "pyramid_resnet": lambda: timm_pyramid("test_resnet", channels=8),
    "pyramid_convnext": lambda: timm_pyramid("test_convnext", channels=8),
    "pyramid_vit": lambda: timm_pyramid("vit_tiny_patch16_224", channels=8, image_size=(64, 64)),
}
QUICK = ("segnet", "mtan", "dilated_resnet50", "pyramid_resnet", "pyramid_convnext")
PUBLISHED_NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "segnet": SegNet,
    "mtan": SegNetMTAN,
    "dilated_resnet50": DilatedResNet50,
    "pyramid_resnet18": lambda: timm_pyramid("resnet18"),
    "pyramid_swin_tiny": lambda: timm_pyramid("swin_tiny_patch4_window7_224", image_size=64),
}


def assert_equal_to_separate_copies(make: Callable[[], nn.Module], size: int, training: bool, fraction: float) -> None:
    torch.manual_seed(0)
    network = still(make())
    x = torch.rand(2, 3, size, size, dtype=torch.float64)
    found = differences(network, some_layers(network, fraction), [x], training, ("segmentation", "depth"))
    assert max(found.values()) < 1e-10, found


@pytest.mark.filterwarnings("error:.*cannot be traced")
@pytest.mark.parametrize(("training", "fraction"), [(True, 0.05), (True, 0.3), (True, 1.0), (False, 0.3)])
@pytest.mark.parametrize("name", QUICK)
def test_a_branched_one_equals_separate_copies(name: str, training: bool, fraction: float) -> None:
    assert_equal_to_separate_copies(NETWORKS[name], 32, training, fraction)


@pytest.mark.slow
@pytest.mark.filterwarnings("error:.*cannot be traced")
@pytest.mark.parametrize("name", PUBLISHED_NETWORKS)
def test_a_branched_one_of_full_width_equals_separate_copies(name: str) -> None:
    assert_equal_to_separate_copies(PUBLISHED_NETWORKS[name], 64, training=True, fraction=0.3)


@pytest.mark.parametrize("name", NETWORKS)
def test_features_and_head_fit_and_predict_every_pixel(name: str) -> None:
    network = NETWORKS[name]()
    features = network(torch.rand(2, 3, 64, 64))
    assert features.shape[:2] == (2, network.num_features)
    heads = heads_for(network, [segmentation("segmentation", classes=13), depth("depth")])
    assert heads["segmentation"](features).shape == (2, 13, 64, 64)
    assert heads["depth"](features).shape == (2, 1, 64, 64)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_loss_on_the_prediction_reaches_every_layer(name: str) -> None:
    torch.manual_seed(0)
    network = NETWORKS[name]()
    network.task_head(2)(network(torch.rand(2, 3, 64, 64))).square().mean().backward()
    assert [path for path, own in shared_layers(network).items() if any(p.grad is None for p in own)] == []


@pytest.mark.parametrize("name", QUICK)
def test_a_branched_one_pickles_casts_and_extracts(name: str, tmp_path: Path) -> None:
    network = NETWORKS[name]().eval()
    net = recon.branch(network, some_layers(network, 0.3), ("segmentation", "depth"))
    x = torch.rand(2, 3, 64, 64)
    torch.save(net, tmp_path / "net.pt")
    loaded = torch.load(tmp_path / "net.pt", weights_only=False).double()
    torch.testing.assert_close(loaded(x.double())["depth"].float(), net(x)["depth"], rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(net.extract("depth")(x), network(x))
