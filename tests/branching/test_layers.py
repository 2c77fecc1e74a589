from collections.abc import Callable

import pytest
import torch
import torchvision.models as tv
from torch import nn
from torch.nn.utils import parametrizations

from recon.branching import branch
from recon.branching.layers import cut, layer_paths

TASKS = ("left", "right")


def tied() -> nn.Module:
    network = nn.ModuleDict({"first": nn.Linear(4, 4), "second": nn.Linear(4, 4, bias=False), "third": nn.Linear(4, 4)})
    network["second"].weight = network["third"].weight = network["first"].weight
    return network


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (["layer1.0.con1"], r"unknown layer 'layer1\.0\.con1' in ResNet; nearest: 'layer1\.0\.conv1'"),
        (["shared.fc"], r"unknown layer 'shared\.fc' in ResNet; nearest: 'fc'"),
        (["fc", "conv1", "fc"], r"layer 'fc' is given 2 times"),
        (["layer1"], r"layer 'layer1' \(Sequential\) owns no parameters; layers in it: 'layer1\.0\.bn1'"),
        (["relu"], r"layer 'relu' \(ReLU\) owns no parameters; there is nothing in it to branch"),
        ("fc", r"layers is 'fc'; give a list of names: \['fc'\]"),
        (["ResNet"], r"layer 'ResNet' \(ResNet\) owns no parameters; layers in it"),
    ],
)
def test_wrong_layer_is_refused(layers: list[str] | str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        branch(tv.resnet18(), layers, TASKS)


def test_layer_whose_parameters_belong_to_another_is_refused() -> None:
    with pytest.raises(ValueError, match=r"layer 'second' .*tied to those of 'first', which own them; branch these"):
        layer_paths(tied(), ["second"])


def test_layers_keep_their_order() -> None:
    assert layer_paths(tv.resnet18(), ["fc", "conv1"]) == ["fc", "conv1"]


def test_tied_parameter_is_copied_wherever_it_is_held() -> None:
    places = cut(tied(), ["first"])
    assert places.tensors == {"first.weight", "first.bias"}
    assert places.leaves == ("first", "second", "third")
    assert places.absent == ("first", "second")  # the third has a bias of its own, which stays shared


def test_layer_in_a_module_that_is_not_entered_copies_that_module() -> None:
    network = nn.Sequential(nn.MultiheadAttention(4, 2))
    assert cut(network, ["0.out_proj"]).leaves == ("0",)
    assert cut(network, ["0.out_proj"]).tensors == {"0.out_proj.weight", "0.out_proj.bias"}
    assert cut(network, ["0"]).tensors == {"0.in_proj_weight", "0.in_proj_bias"}


def test_parameters_read_directly_are_copied_without_the_modules_below() -> None:
    places = cut(tv.swin_t(), ["features.1.0.attn"])
    assert places.holders == ("features.1.0.attn",)
    assert places.tensors == {
        "features.1.0.attn.relative_position_bias_table",
        "features.1.0.attn.relative_position_index",
    }


def test_running_statistics_are_copied_without_the_parameters_beside_them() -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.BatchNorm1d(4, affine=False))
    statistics = {name for name, _ in network.named_buffers()}
    places = cut(network, ["0"], statistics)
    assert places.tensors == {"0.weight", "0.bias"} | statistics
    assert places.statistics == statistics
    assert places.leaves == ("0", "1", "2")
    assert places.absent == ("0", "2")
    assert cut(network, ["0"]).statistics == frozenset()


class Observer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("largest", torch.zeros(()))


class Observed(nn.Linear):
    """A layer with an observer inside, as of quantisation-aware training."""

    def __init__(self) -> None:
        super().__init__(4, 4)
        self.observers = nn.ModuleList([Observer()])


def test_buffers_inside_a_layer_are_copied_with_it() -> None:
    places = cut(nn.Sequential(Observed(), Observed()), ["1"])
    assert places.tensors == {"1.weight", "1.bias", "1.observers.0.largest"}
    assert places.statistics == frozenset()
    assert places.absent == ("1",)


def test_buffers_beside_other_layers_stay_shared() -> None:
    network = nn.Sequential(Observer(), nn.Linear(4, 4))
    network.register_parameter("scale", nn.Parameter(torch.ones(4)))
    assert cut(network, [""]).tensors == {"scale"}


@pytest.mark.parametrize("normalise", [torch.nn.utils.spectral_norm, parametrizations.spectral_norm])
def test_vectors_of_spectral_norm_are_each_tasks_own(normalise: Callable[[nn.Module], nn.Module]) -> None:
    """With weights of rank one, each task's normalised weight has norm 1 only by its own
    vectors.
    """
    torch.manual_seed(0)
    network = nn.Sequential(normalise(nn.Linear(4, 4)), nn.Linear(4, 4))
    names = ["0"] + ["0.parametrizations.weight"] * hasattr(network[0], "parametrizations")
    net = branch(network, names, TASKS).train()
    with torch.no_grad():
        for task in TASKS:
            for parameter in net.branch_parameters(task):
                if parameter.dim() == 2:
                    parameter.copy_(3 * torch.randn(4, 1) @ torch.randn(1, 4))
        for _ in range(3):
            net(torch.randn(2, 4))
    for task in TASKS:
        plain = net.extract(task).eval()
        plain(torch.randn(2, 4))
        assert torch.linalg.matrix_norm(plain[0].weight, 2).item() == pytest.approx(1, abs=1e-5)
