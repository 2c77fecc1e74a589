import pytest
import torch
import torchvision
from torch import Tensor, nn

from recon.branching.layers import cut
from recon.branching.leaves import is_leaf


class Scale(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.weight = nn.Parameter(torch.rand(4))

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) * self.weight


@pytest.mark.parametrize(
    ("module", "leaf"),
    [
        (nn.Conv2d(3, 4, 3), True),
        (nn.MultiheadAttention(4, 2), True),
        (nn.ReLU(), True),
        (Scale(nn.ReLU()), True),
        (Scale(nn.Linear(4, 4)), False),
        (nn.Sequential(nn.Linear(4, 4)), False),
        (nn.ModuleList([nn.Linear(4, 4)]), False),
        (nn.ModuleDict({"a": nn.Linear(4, 4)}), False),
        (torchvision.ops.DropBlock2d(0.1, 3), True),
        (torchvision.ops.Conv2dNormActivation(3, 4), False),
        (torchvision.models.resnet.BasicBlock(4, 4), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_leaf_is_what_there_is_no_use_or_no_way_of_entering(module: nn.Module, leaf: bool) -> None:
    assert is_leaf(module) is leaf


def test_timm_says_what_cannot_be_entered() -> None:
    timm = pytest.importorskip("timm")
    assert is_leaf(timm.layers.BatchNormAct2d(4))
    assert is_leaf(timm.models.mobilevit.MobileVitBlock(32))
    assert not is_leaf(timm.layers.Mlp(4))


def test_layer_in_a_list_is_copied_alone() -> None:
    network = nn.Sequential(nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)]))
    assert cut(network, ["0.1"]).leaves == ("0.1",)
