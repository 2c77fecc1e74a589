from typing import Any

import pytest
from torch import nn

from recon.branching import branch
from recon.engine.groups import LayerGroups, checked_groups, layer_groups
from recon.methods import create_method


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Tanh(), nn.Linear(3, 2))


def groups_of(granularity: Any, shared: nn.Module) -> dict[str, list[str]]:
    groups = layer_groups(granularity, shared)
    assert groups is not None
    layers = ["0", "1", "3"]
    found: dict[str, list[str]] = {name: [] for name in groups.names}
    for layer in layers:
        try:
            found[groups.names[groups.of([layer])[0]]].append(layer)
        except ValueError:
            continue
    return found


def test_all_layers_together_are_no_groups() -> None:
    assert layer_groups("network", network()) is None


def test_each_layer_is_a_group_frozen_or_not() -> None:
    frozen = network()
    frozen[0].requires_grad_(False)
    assert groups_of("layer", frozen) == {"0": ["0"], "1": ["1"], "3": ["3"]}


def test_layers_that_no_group_names_are_the_last_group() -> None:
    assert groups_of({"norm": ["1"]}, network()) == {"norm": ["1"], "others": ["0", "3"]}
    assert groups_of({"last": ["3"], "first": ["1", "0"]}, network()) == {"last": ["3"], "first": ["0", "1"]}


def test_branched_layers_are_in_no_group() -> None:
    branched = branch(network(), ["0"], ["a", "b"])
    assert groups_of({"stem": ["0", "1"], "own": ["3"]}, branched) == {"stem": ["1"], "own": ["3"]}
    assert groups_of({"first": ["0"]}, branched) == {"others": ["1", "3"]}
    assert groups_of("layer", branched) == {"1": ["1"], "3": ["3"]}
    within = nn.ModuleDict({"encoder": branched, "neck": nn.Linear(2, 2)})
    groups = layer_groups({"stem": ["encoder.0", "encoder.1"], "rest": ["encoder.3", "neck"]}, within)
    assert groups is not None
    assert (groups.names, groups.of(["encoder.3", "encoder.1"])) == (("stem", "rest"), [1, 0])


@pytest.mark.parametrize(
    ("granularity", "message"),
    [
        ({"stem": ["0", "4"]}, r"unknown layer '4' in group 'stem' of Sequential; known: '0', '1', '3'"),
        ({"stem": ["0", "2"]}, r"'2' in group 'stem' of Sequential has no parameters of its own, so there is nothing"),
        ({"stem": ["0", "1"], "all": ["3", "1"]}, r"layer '1' is in group 'stem' and in group 'all'"),
        ({"stem": ["0", "0"]}, r"layer '0' is in group 'stem' and in group 'stem'"),
        ({"stem": []}, r"group 'stem' must be a list of one layer at least, got \[\]"),
        ({"stem": "0"}, r"group 'stem' must be a list of one layer at least, got '0'"),
        ({"others": ["0"]}, r"a group is named 'others', as is the group of the layers that no group names \(1, 3\)"),
        ({}, "granularity names no group"),
        ("layers", "granularity must be 'network', 'layer' or groups of layers by name.* got 'layers'"),
        (["0"], r"granularity must be .* got \['0'\]"),
    ],
)
def test_what_is_no_partition_is_refused(granularity: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        layer_groups(granularity, network())


def test_a_layer_that_came_later_is_in_no_group() -> None:
    with pytest.raises(ValueError, match=r"layer 'neck' was added to the shared part after its groups were made"):
        LayerGroups({"all": ["conv"]}).of(["conv", "neck"])


def test_methods_without_weights_for_each_group_are_refused() -> None:
    assert checked_groups("network", network(), create_method("joint"), 2, at="representation") is None
    assert checked_groups("layer", network(), create_method("joint"), 1, at="parameters") is None  # trained plainly
    for name, at, message in [
        ("joint", "parameters", "Joint weights losses, which are the same in every layer"),
        ("moco", "parameters", "MoCo combines the gradients of all layers at once.* a Gramian method: "),
        ("mgda", "representation", "at='representation' weights the gradients of the features"),
    ]:
        with pytest.raises(ValueError, match=message):
            checked_groups("layer", network(), create_method(name), 2, at)
