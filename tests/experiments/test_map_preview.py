"""A map found elsewhere, laid beside a network, before anything is trained."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from recon.branching import branch
from recon.branching.growth import flops
from recon.conflict import ConflictMap
from recon.experiments.fit import Fit
from recon.experiments.map_preview import preview_map, read_fit
from recon.models import LeNet, linear_heads
from recon.tasks.per_image import classification

TASKS = [classification("digit", 10), classification("letter", 10)]


SECTION = {"model": {"backbone": {"class_path": "recon.models.LeNet"}}, "data": {"class_path": "recon.data.Glyphs"}}


def fit(**backbone: Any) -> Fit:
    return Fit(SECTION).with_model({"backbone": {"class_path": "recon.models.LeNet", **backbone}})


def ranking(path: Path, *layers: str) -> ConflictMap:
    scores = {layer: 100 - position for position, layer in enumerate(layers)}
    path.write_text(json.dumps(scores))
    return ConflictMap.import_scores(path, severity=-0.1)


def test_layers_are_matched_by_name_and_the_worst_of_them_branched(tmp_path: Path) -> None:
    found = ranking(tmp_path / "map.json", "fc", "layer4.conv1", "conv2")
    preview = preview_map(found, fit(), top=2, severity=-0.1)
    assert preview.matched == ("conv2", "fc")
    assert preview.unmatched == ("layer4.conv1",)
    assert preview.extra == ("conv1",)
    assert preview.branched == ("fc", "conv2")


def test_growth_is_that_of_the_branched_network_with_its_heads(tmp_path: Path) -> None:
    found = ranking(tmp_path / "map.json", "fc", "conv1", "conv2")
    preview = preview_map(found, fit(), top=1, severity=-0.1)
    network = branch(LeNet(), ["fc"], ["digit", "letter"]).eval()
    heads = linear_heads(50, TASKS)
    image = torch.zeros(1, 1, 36, 36)
    count = sum(parameter.numel() for module in (network, heads) for parameter in module.parameters())
    assert preview.parameters.branched == count
    assert preview.parameters.branched - preview.parameters.plain == 20 * 5 * 5 * 50 + 50
    linear = 2 * 50 * 10 * 2  # both heads
    assert preview.flops.branched == flops(network, image) + linear
    assert preview.flops.plain == flops(LeNet().eval(), image) + linear
    record = preview.to_dict()
    assert record["parameters"]["growth"] == pytest.approx(preview.parameters.ratio - 1)
    assert json.loads(json.dumps(record))["matched"] == ["conv1", "conv2", "fc"]
    assert "matched    3 of the map's 3 layers, 3 of the network's 3" in str(preview)


def test_widths_may_differ(tmp_path: Path) -> None:
    names = ("conv1", "bn1", "layer1.0.conv1")
    wide = {"class_path": "recon.models.ResNet18", "init_args": {"width": 4}}
    preview = preview_map(ranking(tmp_path / "map.json", *names), fit(**wide), top=3, severity=-0.1)
    assert preview.branched == names
    assert len(preview.extra) == 41 - 3


def test_neither_data_nor_pretrained_weights_are_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    configuration = {
        "model": {
            "backbone": {
                "class_path": "recon.models.timm_backbone",
                "init_args": {"name": "resnet10t", "pretrained": True},
            }
        },
        "data": {"class_path": "recon.data.MultiFashionMNIST", "init_args": {"train_size": 100}},
    }
    preview = preview_map(ranking(tmp_path / "map.json", "conv1.0"), Fit(configuration), top=1, severity=-0.1)
    assert preview.matched == ("conv1.0",)
    assert configuration["model"]["backbone"]["init_args"]["pretrained"] is True
    assert [path.name for path in tmp_path.iterdir()] == ["map.json"]


def test_a_map_without_a_common_layer_is_refused(tmp_path: Path) -> None:
    message = "none of the map's 1 layer is in the network: unknown layer 'conv11' in LeNet; nearest: 'conv1'"
    with pytest.raises(ValueError, match=message):
        preview_map(ranking(tmp_path / "map.json", "conv11"), fit(), top=1, severity=-0.1)


def test_a_network_of_one_layer_has_none_to_branch(tmp_path: Path) -> None:
    linear = fit(class_path="torch.nn.Linear", init_args={"in_features": 4, "out_features": 4})
    with pytest.raises(ValueError, match="the network shares the one layer 'Linear'"):
        preview_map(ranking(tmp_path / "map.json", "Linear"), linear, top=1, severity=-0.1)


@pytest.mark.parametrize("top", [0, 2, 3])
def test_more_layers_than_are_matched_or_shared_are_refused(tmp_path: Path, top: int) -> None:
    with pytest.raises(ValueError, match=f"top={top} of 1 matched layer, of 3 that the network shares; give 1 to 1"):
        preview_map(ranking(tmp_path / "map.json", "conv1"), fit(), top=top, severity=-0.1)


def test_the_report_says_that_a_map_of_other_layers_is_for_the_eye(tmp_path: Path) -> None:
    whole, part = (
        preview_map(ranking(tmp_path / "map.json", *names), fit(), top=1, severity=-0.1)
        for names in (("fc", "conv1", "conv2"), ("fc", "conv1"))
    )
    assert "model.branch.layers" not in str(whole)
    assert "model.branch.layers" in str(part)


def test_a_configuration_is_a_fit_or_a_plan(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(SECTION))
    assert read_fit(path) == (Fit(SECTION), None)
    whole = {"name": "p", "fit": {**SECTION, "trainer": {"max_epochs": 1}}, "methods": [{"method": "joint"}], "top": 2}
    path.write_text(yaml.safe_dump(whole))
    section, plan = read_fit(path)
    assert section == Fit(whole["fit"])
    assert plan is not None and plan.top == 2
    path.write_text("model: {backbone: b}\n")
    with pytest.raises(ValueError, match=r"has no data\.class_path"):
        read_fit(path)
    with pytest.raises(ValueError, match="cannot read the configuration"):
        read_fit(tmp_path / "absent.yaml")
