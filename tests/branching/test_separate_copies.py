"""The promise of branching: outputs, gradients and running statistics are those of separate copies,
in any network.
"""

from collections.abc import Callable

import pytest
import torch
import torchvision.models as tv
from separate_copies import differences, differences_after_training, some_layers, still
from torch import nn

from recon.gradients.layers import shared_layers


def _timm(name: str, **options: object) -> Callable[[], nn.Module]:
    return lambda: pytest.importorskip("timm").create_model(name, **options)


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "resnet": lambda: tv.ResNet(tv.resnet.BasicBlock, [1, 1, 1, 1]),
    "mobilenet_v3_small": tv.mobilenet_v3_small,
    "densenet": lambda: tv.DenseNet(8, (2, 2, 2), 16),
    "swin": lambda: tv.SwinTransformer([4, 4], 24, [2, 2], [2, 4], [7, 7], stochastic_depth_prob=0.0),
    "vit": lambda: tv.VisionTransformer(64, 16, 3, 4, 64, 128),
    "timm_convnext_atto": _timm("convnext_atto"),
    "timm_mobilevit_xxs": _timm("mobilevit_xxs"),
}
PUBLISHED_NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "resnet18": tv.resnet18,
    "resnet50": tv.resnet50,
    "mobilenet_v3_small": tv.mobilenet_v3_small,
    "efficientnet_b0": tv.efficientnet_b0,
    "densenet121": tv.densenet121,
    "convnext_tiny": tv.convnext_tiny,
    "swin_t": tv.swin_t,
    "vit": lambda: tv.VisionTransformer(64, 16, 3, 4, 64, 128),
    "deeplabv3": lambda: tv.segmentation.deeplabv3_mobilenet_v3_large(weights_backbone=None, num_classes=5),
    "timm_resnet18": _timm("resnet18"),
    "timm_resnet18_features_only": _timm("resnet18", features_only=True),
    "timm_vit_tiny_patch16_224": _timm("vit_tiny_patch16_224", img_size=64),
    "timm_convnext_atto": _timm("convnext_atto"),
    "timm_mobilevit_s": _timm("mobilevit_s"),
}


NETWORKS_WITH_STATISTICS = {name: NETWORKS[name] for name in ("resnet", "densenet")} | {
    "timm_mobilenetv3_small_050": _timm("mobilenetv3_small_050")
}
PUBLISHED_NETWORKS_WITH_STATISTICS = [
    "resnet18",
    "resnet50",
    "efficientnet_b0",
    "deeplabv3",
    "timm_resnet18_features_only",
    "timm_mobilevit_s",
]


def assert_equal_to_separate_copies(
    make: Callable[[], nn.Module], training: bool, fractions: tuple[float, ...]
) -> None:
    torch.manual_seed(0)
    network = still(make())
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    for fraction in fractions:
        found = differences(network, some_layers(network, fraction), [x], training, ("left", "right"))
        assert max(found.values()) < 1e-10, f"{fraction:.0%} of the layers: {found}"


@pytest.mark.filterwarnings("error:.*cannot be traced")
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("name", NETWORKS)
def test_branched_network_equals_separate_copies(name: str, training: bool) -> None:
    assert_equal_to_separate_copies(NETWORKS[name], training, (0.3,))


@pytest.mark.slow
@pytest.mark.filterwarnings("error:.*cannot be traced")
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("name", PUBLISHED_NETWORKS)
def test_published_network_equals_separate_copies_for_few_and_all_layers(name: str, training: bool) -> None:
    assert_equal_to_separate_copies(PUBLISHED_NETWORKS[name], training, (0.05, 0.3, 1.0))


def assert_equal_to_tied_copies_after_training(make: Callable[[], nn.Module], fractions: tuple[float, ...]) -> None:
    torch.manual_seed(0)
    network = still(make())
    batches = list(torch.randn(3, 2, 3, 64, 64, dtype=torch.float64))
    for fraction in fractions:
        found = differences_after_training(network, some_layers(network, fraction), batches, ("left", "right"))
        assert max(found.values()) < 1e-9, f"{fraction:.0%} of the layers: {found}"


@pytest.mark.filterwarnings("error:.*cannot be traced")
@pytest.mark.parametrize("name", NETWORKS_WITH_STATISTICS)
def test_network_with_statistics_per_task_equals_tied_copies_after_training(name: str) -> None:
    assert_equal_to_tied_copies_after_training(NETWORKS_WITH_STATISTICS[name], (0.1,))


@pytest.mark.slow
@pytest.mark.filterwarnings("error:.*cannot be traced")
@pytest.mark.parametrize("name", PUBLISHED_NETWORKS_WITH_STATISTICS)
def test_published_network_with_statistics_per_task_equals_tied_copies_after_training(name: str) -> None:
    assert_equal_to_tied_copies_after_training(PUBLISHED_NETWORKS[name], (0.1, 1.0))


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_three_tasks_share_what_is_not_branched(training: bool) -> None:
    torch.manual_seed(0)
    network = still(nn.Sequential(*(_block(width) for width in (3, 4, 4, 4))))
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    for layer in shared_layers(network):
        assert max(differences(network, [layer], [x], training, ("a", "b", "c")).values()) < 1e-12


def in_groups(layers: list[str]) -> dict[str, list[list[str]]]:
    """Groups of three tasks that differ from layer to layer; some layers stay plain, others part all."""
    kinds = [[["a", "c"], ["b"]], [["c", "b"], ["a"]], [["a", "b", "c"]], [["a", "b"], ["c"]], [["a"], ["b"], ["c"]]]
    # Equal groups in a row let tasks go together for a while.
    return {layer: kinds[(2 * index // len(layers) + index // 5) % 5] for index, layer in enumerate(layers)}


def assert_groups_equal_separate_copies(make: Callable[[], nn.Module], training: bool) -> None:
    torch.manual_seed(0)
    network = still(make())
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    layers = some_layers(network, 0.3)
    found = differences(network, layers, [x], training, ("a", "b", "c"), groups=in_groups(layers))
    assert max(found.values()) < 1e-10, found


@pytest.mark.filterwarnings("error:.*cannot be traced")
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("name", NETWORKS)
def test_groups_equal_separate_copies(name: str, training: bool) -> None:
    assert_groups_equal_separate_copies(NETWORKS[name], training)


@pytest.mark.slow
@pytest.mark.filterwarnings("error:.*cannot be traced")
@pytest.mark.parametrize("name", PUBLISHED_NETWORKS)
def test_groups_in_a_published_network_equal_separate_copies(name: str) -> None:
    assert_groups_equal_separate_copies(PUBLISHED_NETWORKS[name], training=True)


@pytest.mark.filterwarnings("error:.*cannot be traced")
@pytest.mark.parametrize("name", NETWORKS_WITH_STATISTICS)
def test_groups_with_statistics_of_their_own_equal_tied_copies_after_training(name: str) -> None:
    torch.manual_seed(0)
    network = still(NETWORKS_WITH_STATISTICS[name]())
    batches = list(torch.randn(3, 2, 3, 64, 64, dtype=torch.float64))
    layers = some_layers(network, 0.2)
    found = differences_after_training(network, layers, batches, ("a", "b", "c"), in_groups(layers))
    assert max(found.values()) < 1e-9, found


def _block(width: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(width, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
