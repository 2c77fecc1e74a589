"""Prices of layers against the network that is really branched."""

from collections.abc import Callable
from random import Random

import pytest
import torch
from torch import Tensor, nn

from recon.branching import branch, growth
from recon.branching.prices import layer_prices
from recon.gradients.layers import shared_layers
from recon.models import ResNet18, SegNet, SegNetMTAN, timm_backbone
from recon.training.branch_options import branchable_layers, task_specific_layers

RESNET = (lambda: ResNet18(width=2), torch.zeros(1, 1, 32, 32))
SEGNET = (lambda: SegNet(width=1), torch.zeros(1, 3, 32, 32))
TIMM = (lambda: timm_backbone("test_efficientnet", pretrained=False), torch.zeros(1, 1, 32, 32))


@pytest.mark.parametrize(
    ("network", "image", "tasks"),
    [
        pytest.param(*RESNET, ("a", "b"), id="resnet18-2", marks=pytest.mark.slow),
        pytest.param(*RESNET, ("a", "b", "c"), id="resnet18-3"),
        pytest.param(*SEGNET, ("a", "b"), id="segnet-2", marks=pytest.mark.slow),
        pytest.param(*SEGNET, ("a", "b", "c"), id="segnet-3", marks=pytest.mark.slow),
        pytest.param(*TIMM, ("a", "b"), id="timm-2"),
        pytest.param(*TIMM, ("a", "b", "c"), id="timm-3", marks=pytest.mark.slow),
    ],
)
def test_prices_are_what_the_branched_network_costs(
    network: Callable[[], nn.Module], image: Tensor, tasks: tuple[str, ...]
) -> None:
    backbone, random = network(), Random(len(tasks))
    layers = list(shared_layers(backbone))
    prices = layer_prices(backbone, layers, tasks, image)
    chosen = random.sample(layers[3:], 3)
    found = growth(branch(backbone, chosen, tasks), image, repeats=1)
    assert found.parameters.branched - found.parameters.plain == prices.parameters_of(chosen)
    assert found.flops.plain == prices.plain_flops
    assert found.flops.branched - found.flops.plain == prices.flops_of(chosen) > 0
    assert prices.growth(chosen) == pytest.approx((found.parameters.ratio - 1, found.flops.ratio - 1))


class Fork(nn.Module):
    """Two paths beside each other, one of which writes in place, and their sum."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.left, self.right, self.end = (nn.Linear(4, 4) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        total = self.left(x)
        total += self.right(x)
        return self.end(total)  # type: ignore[no-any-return]


def test_a_layer_makes_only_what_depends_on_it_run_once_per_task() -> None:
    prices = layer_prices(Fork(), ["stem", "left", "right", "end"], ["a", "b", "c"], torch.zeros(1, 4))
    one = 2 * 2 * 4 * 4  # two more runs
    found = {
        layers: prices.flops_of(layers) // one
        for layers in [("end",), ("left",), ("right",), ("left", "right"), ("stem",), ("stem", "left", "end")]
    }
    assert found == {
        ("end",): 1,
        ("left",): 2,
        ("right",): 2,
        ("left", "right"): 3,
        ("stem",): 4,
        ("stem", "left", "end"): 4,
    }


@pytest.mark.slow
def test_layers_that_are_branched_in_any_case_belong_to_the_plain_network() -> None:
    backbone, tasks, image = SegNetMTAN(width=1), ["a", "b"], torch.zeros(1, 3, 32, 32)
    own = task_specific_layers(backbone)
    layers = branchable_layers(backbone)
    prices = layer_prices(backbone, layers, tasks, image, groups={layer: [["a"], ["b"]] for layer in own})
    plain = growth(branch(backbone, own, tasks), image, repeats=1)
    assert prices.plain_flops == plain.flops.branched
    layer = layers[len(layers) // 2]
    found = growth(branch(backbone, [*own, layer], tasks), image, repeats=1)
    assert found.flops.branched == prices.plain_flops + prices.flops_of([layer])
    assert found.parameters.branched == plain.parameters.branched + prices.parameters_of([layer])


def test_groups_share_the_price_of_a_layer() -> None:
    backbone = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    groups = {"0": [["a", "c"], ["b"]]}
    prices = layer_prices(backbone, ["0", "1"], ["a", "b", "c"], torch.zeros(1, 4), groups=groups)
    assert prices.parameters == {"0": 16, "1": 32}
    assert prices.plain_flops == 4 * 32
    assert (prices.flops_of(["0"]), prices.flops_of(["1"])) == (2 * 32, 32)


def test_pricing_leaves_the_network_as_it_is() -> None:
    backbone = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)).train()
    layer_prices(backbone, ["0", "1"], ["a", "b"], torch.ones(2, 4))
    assert all(module.training for module in backbone.modules())
    assert backbone[1].num_batches_tracked == 0


class Wayward(nn.Module):
    """A forward whose path depends on its input."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) if x.sum() > 0 else x


def test_a_network_that_cannot_be_traced_has_no_known_operations() -> None:
    with pytest.raises(ValueError, match=r"operations behind each layer of Wayward .* give a budget of parameters"):
        layer_prices(Wayward(), ["layer"], ["a", "b"], torch.ones(1, 4))
    assert layer_prices(Wayward(), ["layer"], ["a", "b"]).parameters == {"layer": 20}
