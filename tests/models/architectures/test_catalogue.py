"""All architectures are listed, made by their names, and built from YAML."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import recon
from recon.configuration import build_object
from recon.gradients.layers import shared_layers
from recon.models import (
    BMTAS,
    CGC,
    LTB,
    MLP,
    MTAN,
    PLE,
    CrossStitch,
    DSelectK,
    LeNet,
    MMoE,
    ResNet18,
    RotatedHeads,
    create_architecture,
    list_architectures,
)
from recon.models.contract import for_tasks, has_task_specific_layers

RESNET = {"class_path": "recon.models.ResNet18", "init_args": {"width": 2, "features": 5}}
STAGES = {"layer1": 2, "layer2": 4}
IN_YAML: dict[str, tuple[str, dict[str, Any]]] = {
    "bmtas": ("BMTAS", {"backbone": RESNET, "stages": ["layer1", "layer2"]}),
    "cgc": ("CGC", {"expert": RESNET, "experts": 1, "own": 1, "gate_inputs": 1296}),
    "cross_stitch": ("CrossStitch", {"backbone": RESNET, "stages": STAGES}),
    "dselect_k": ("DSelectK", {"expert": RESNET, "experts": 3, "k": 2, "gate_inputs": 1296}),
    "hard_sharing": ("hard_sharing", {"backbone": RESNET}),
    "ltb": ("LTB", {"backbone": RESNET, "stages": ["layer1", "layer2"]}),
    "mmoe": ("MMoE", {"expert": RESNET, "experts": 2, "gate_inputs": 1296}),
    "mtan": ("MTAN", {"backbone": RESNET, "stages": STAGES, "expansion": 1}),
    "ple": (
        "PLE",
        {"levels": [RESNET, {"class_path": "recon.models.MLP", "init_args": {"inputs": 5, "widths": [5]}}]}
        | {"gate_inputs": 1296},
    ),
    "segnet_mtan": ("SegNetMTAN", {"width": 2, "in_channels": 1}),
}


def test_they_are_listed() -> None:
    assert list_architectures() == recon.list_architectures() == sorted([*IN_YAML, "rotograd"])


@pytest.mark.parametrize("name", IN_YAML)
def test_each_is_made_by_its_class_path_for_two_tasks(name: str) -> None:
    class_path, init_args = IN_YAML[name]
    configuration = {"class_path": f"recon.models.{class_path}", "init_args": init_args}
    backbone = build_object(nn.Module, configuration, "fit.model.backbone")
    network = for_tasks(backbone, ["a", "b"])
    if has_task_specific_layers(network):
        network = recon.branch(network, network.task_specific_layers(), ["a", "b"])
    features = network(torch.rand(2, 1, 36, 36))
    if name == "hard_sharing":
        assert features.shape == (2, 5)
    else:
        assert [*features] == ["a", "b"]
        assert all(own.isfinite().all() for own in features.values())


def test_an_architecture_is_made_by_its_name() -> None:
    assert len(create_architecture("mmoe", expert=lambda: MLP(3, [2]), experts=4, gate_inputs=3).experts) == 4
    heads = create_architecture("rotograd", heads={"a": nn.Linear(3, 1), "b": nn.Linear(3, 1)}, size=3)
    assert [tuple(head(torch.zeros(2, 3)).shape) for head in heads.values()] == [(2, 1), (2, 1)]
    with pytest.raises(ValueError, match="unknown architecture 'mmoes'; nearest: 'mmoe'"):
        create_architecture("mmoes")


def test_a_wrong_argument_in_yaml_is_named() -> None:
    configuration = {"class_path": "recon.models.MMoE", "init_args": {"expert": RESNET, "expert_count": 2}}
    with pytest.raises(ValueError, match="expert_count"):
        build_object(nn.Module, configuration, "fit.model.backbone")


@pytest.mark.parametrize(
    "plan",
    [CrossStitch(LeNet, ["conv1"]), LTB(LeNet, ["conv1"]), PLE([LeNet], gate_inputs=1296), BMTAS(LeNet, ["conv1"])],
    ids=lambda plan: type(plan).__name__,
)
def test_a_plan_that_is_run_says_how_its_network_is_made(plan: nn.Module) -> None:
    name = type(plan).__name__
    with pytest.raises(TypeError, match=rf"{name} is the plan of a network .*; make the network by its for_tasks\("):
        plan(torch.zeros(2, 1, 36, 36))
    with pytest.raises(ValueError, match=rf"{name} is the plan of a network .* by its for_tasks, and branch that"):
        recon.branch(plan, [next(iter(shared_layers(plan)))], ["a", "b"])


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: DSelectK(LeNet, experts=4, k=2.5, gate_inputs=9), r"k is 2\.5; it must be a whole number"),
        (lambda: DSelectK(LeNet, experts=4, k=True, gate_inputs=9), r"k is True; it must be a whole number"),
        (lambda: CGC(LeNet, own=1.5, gate_inputs=9), r"own is 1\.5; it must be a whole number"),
        (lambda: MMoE(LeNet, experts="3", gate_inputs=9), r"experts is '3'; it must be a whole number"),
        (lambda: MMoE(LeNet, experts=3, gate_inputs=9.5), r"gate_inputs is 9\.5; give the number of values"),
        (lambda: PLE(2, gate_inputs=9), r"levels is 2; give a list of functions"),
        (lambda: PLE(LeNet(), gate_inputs=9), r"levels is LeNet\(.*; give a list of functions"),
        (lambda: CrossStitch(LeNet, {"conv1": 2.5}), r"stage 'conv1' has 2\.5 channels; give a whole number"),
        (
            lambda: MTAN(ResNet18(width=2), {"layer1": 2.0}, expansion=1),
            r"'layer1' has 2\.0 channels and expansion is 1",
        ),
        (lambda: MTAN(ResNet18(width=2), {"layer1": 2}, expansion=1.0), r"expansion is 1\.0; it is 1 for basic blocks"),
        (lambda: RotatedHeads({"a": nn.Linear(3, 1)}, size=2.5), r"size is 2\.5; it must be a whole number"),
    ],
)
def test_numbers_that_are_not_whole_are_refused_by_name(make: Callable[[], nn.Module], told: str) -> None:
    with pytest.raises(ValueError, match=rf"(?s){told}"):
        make()
