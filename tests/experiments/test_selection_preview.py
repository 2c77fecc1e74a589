"""What rules select on the network of a fit, and what it costs there."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from recon.branching import TaskTree
from recon.branching.growth import flops
from recon.branching.task_tree import TreeStage
from recon.conflict import ConflictMap, Rule
from recon.experiments.fit import Fit
from recon.experiments.report.score_and_price import score_and_price
from recon.experiments.selection_preview import MapOnNetwork, describe_curve
from recon.training import BranchOptions

LENET = {"model": {"backbone": {"class_path": "recon.models.LeNet"}}, "data": {"class_path": "recon.data.Glyphs"}}


@pytest.fixture
def on_lenet(tmp_path: Path) -> MapOnNetwork:
    path = tmp_path / "scores.json"
    path.write_text(json.dumps({"conv1": 60, "layer4.conv1": 50, "fc": 30, "conv2": 10}))
    return MapOnNetwork(ConflictMap.import_scores(path, severity=-0.1), Fit(LENET), severity=-0.1)


def test_a_selection_tells_its_price_and_the_score_that_it_captures(on_lenet: MapOnNetwork) -> None:
    selection = on_lenet.select(Rule(flops=0.5, top=1))
    assert selection.layers == ("fc",)  # behind conv1, of higher score, all runs twice
    assert selection.captured == 0.3  # of the layers that the network has
    assert 0 < selection.flops.ratio - 1 <= 0.5
    timed = on_lenet.timed(selection)
    assert timed.seconds is not None and timed.seconds.branched > 0
    assert "step time" in str(timed) and "score      30.0% of all scores" in str(timed)
    record: dict[str, Any] = json.loads(json.dumps(timed.to_dict()))
    assert record["rule"] == {"top": 1, "flops": 0.5}
    assert record["flops"]["growth"] == selection.flops.ratio - 1
    assert "LeNet, tasks digit, letter, severity -0.1, 3 of the map's 4 layers" in on_lenet.title


def test_the_curve_has_a_row_for_every_budget_that_a_layer_meets(on_lenet: MapOnNetwork) -> None:
    rows = [line.split()[:2] for line in describe_curve(on_lenet.curve()).splitlines()]
    assert [row for row in rows if row[0] == "parameters:"] == [["parameters:", f"{p}"] for p in (0.05, 0.1, 0.2, 0.5)]
    assert ["flops:", "1.0"] in rows and ["top:", "2"] in rows
    assert all(one.captured <= 0.9 for one in on_lenet.curve())  # one layer stays shared


def test_the_figure_shows_budgets_and_top_layers_in_both_prices(on_lenet: MapOnNetwork) -> None:
    flops, parameters = on_lenet.frontier("flops"), on_lenet.frontier("parameters")
    figure = score_and_price(on_lenet.tops(), flops=flops, parameters=parameters)
    assert [len(axes.lines) for axes in figure.axes] == [2, 2]
    for selections in (flops, parameters):
        captured = [one.captured for one in selections]
        assert captured == sorted(captured) and captured[-1] == pytest.approx(0.9)


def test_a_rule_that_would_branch_all_layers_is_refused(on_lenet: MapOnNetwork) -> None:
    with pytest.raises(ValueError, match="threshold: 1 would branch all 3 shared layers"):
        on_lenet.select(Rule(threshold=1))
    for top in (3, 4):
        with pytest.raises(ValueError, match=f"top: {top} would branch all 3 shared layers; leave at least one"):
            on_lenet.select(Rule(top=top))
    with pytest.raises(ValueError, match=r"rate=0\.1 of an imported map.*give threshold"):
        on_lenet.select(Rule(rate=0.1))


@pytest.fixture
def beside_tree(tmp_path: Path) -> MapOnNetwork:
    """A map of the plain network, beside a tree that parts one of three tasks in the last stage."""
    path, tree = tmp_path / "scores.json", tmp_path / "tree.json"
    network = {"class_path": "recon.models.ResNet18", "init_args": {"width": 4, "in_channels": 3}}
    fit = Fit({"model": {"backbone": network}, "data": {"class_path": "recon.data.Rooms"}})
    tasks = tuple(task.name for task in fit.tasks())
    layers = ("layer4.0.conv1", "layer4.0.conv2")
    TaskTree(tasks, (TreeStage("layer4.0", (tasks[:2], tasks[2:]), layers),)).save(tree)
    path.write_text(json.dumps({"conv1": 60, "layer3.1.bn2": 50, "layer4.0.conv2": 40, "layer4.1.bn2": 30, "bn1": 9}))
    return MapOnNetwork(ConflictMap.import_scores(path, severity=-0.1), fit, severity=-0.1, tree=str(tree))


def operations(on_network: MapOnNetwork, layers: tuple[str, ...]) -> int:
    """The operations of the network that is really branched, with its tree."""
    fit, options = on_network.fit, BranchOptions(layers=layers, tree=on_network.tree)
    network = options.apply(fit.backbone(), [task.name for task in fit.tasks()])
    return flops(network.eval(), torch.zeros(1, *fit.data().input_shape))


def test_beside_a_tree_prices_are_those_of_the_network_that_is_really_branched(beside_tree: MapOnNetwork) -> None:
    assert beside_tree.title.endswith(f"5 of the map's 5 layers, beyond {beside_tree.tree}")
    plain = operations(beside_tree, ())
    for top in (1, 2, 3, 4):
        selection = beside_tree.select(Rule(top=top))
        assert (selection.flops.plain, selection.flops.branched) == (plain, operations(beside_tree, selection.layers))
    assert beside_tree.timed(selection).seconds is not None


def test_a_copy_that_the_tree_has_costs_nothing(beside_tree: MapOnNetwork) -> None:
    alone = MapOnNetwork(beside_tree.conflict_map, beside_tree.fit, severity=-0.1)
    added = []
    for on_network in (alone, beside_tree):
        selection = on_network.select(Rule(top=3))
        assert selection.layers == ("conv1", "layer3.1.bn2", "layer4.0.conv2")
        added.append(selection.parameters.branched - selection.parameters.plain)
    assert added[0] - added[1] == beside_tree.fit.backbone().get_parameter("layer4.0.conv2.weight").numel()


def test_a_budget_of_operations_is_beyond_the_tree(beside_tree: MapOnNetwork) -> None:
    rule = Rule(flops=0.15)
    layers = beside_tree.select(rule).layers
    assert layers == ("layer3.1.bn2", "layer4.0.conv2", "layer4.1.bn2")
    assert operations(beside_tree, layers) / operations(beside_tree, ()) - 1 <= 0.15
    alone = MapOnNetwork(beside_tree.conflict_map, beside_tree.fit, severity=-0.1)
    assert "layer3.1.bn2" not in alone.select(rule).layers  # two more passes behind it instead of one


def test_a_tree_of_other_tasks_is_refused(on_lenet: MapOnNetwork, beside_tree: MapOnNetwork) -> None:
    with pytest.raises(ValueError, match="task"):
        MapOnNetwork(on_lenet.conflict_map, on_lenet.fit, -0.1, beside_tree.tree).select(Rule(top=1))
