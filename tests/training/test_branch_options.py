import json
import pickle
from collections.abc import Callable
from copy import deepcopy
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from recon import ConflictAnalyzer, TaskTree
from recon.branching import NamedInit, layer_prices
from recon.branching.task_tree import TreeStage
from recon.conflict import ConflictMap, Rule
from recon.gradients.layers import shared_layers
from recon.models import CGC, MLP, MTAN, DSelectK, LeNet, MMoE, ResNet18, SegNet, SegNetMTAN
from recon.training import BranchOptions
from recon.training.command import TrainingCLI

TASKS = ["digit", "letter"]


def published(path: Path, scores: dict[str, int]) -> str:
    (path / "published.json").write_text(json.dumps(scores))
    ConflictMap.import_scores(path / "published.json", severity=-0.1).save(path / "map.json")
    return str(path / "map.json")


def branched_layers(network: nn.Module) -> tuple[str, ...]:
    layers = network.layers
    return tuple(layers)  # type: ignore[arg-type]


def test_layers_are_branched_by_name() -> None:
    backbone = LeNet()
    network = BranchOptions(layers=["fc"]).apply(backbone, TASKS)
    assert branched_layers(network) == ("fc",)
    assert list(network(torch.zeros(1, 1, 36, 36))) == TASKS
    assert not hasattr(backbone, "layers")


def test_the_top_of_a_map_is_branched(tmp_path: Path) -> None:
    path = published(tmp_path, {"conv2": 9, "fc": 5, "conv1": 1})
    assert sorted(branched_layers(BranchOptions(map=path, top=2).apply(LeNet(), TASKS))) == ["conv2", "fc"]


@pytest.mark.parametrize("rule", [Rule(top=2), Rule(threshold=5), Rule(parameters=0.5), Rule(flops=0.99)])
def test_a_rule_selects_layers_of_a_map(rule: Rule, tmp_path: Path) -> None:
    path = published(tmp_path, {"conv2": 9, "fc": 5, "conv1": 1})
    options, network = BranchOptions(map=path, select=rule), LeNet()
    inputs = torch.zeros(1, 1, 36, 36)
    expected = ConflictMap.load(path).select_by(
        rule, -0.1, layer_prices(network, list(shared_layers(network)), TASKS, inputs)
    )
    named = options.by_name(network, TASKS, (1, 36, 36))
    assert named.layers == expected
    assert named.select is None
    assert set(branched_layers(options.apply(network, TASKS, (1, 36, 36)))) == set(expected)


def test_a_rule_selects_layers_for_the_shape_of_the_data(tmp_path: Path) -> None:
    branch = {"map": published(tmp_path, {"conv2": 9, "fc": 5, "conv1": 1}), "select": {"flops": 0.99}}
    model = {"backbone": {"class_path": "recon.models.LeNet"}, "branch": branch}
    built = TrainingCLI({"model": model, "data": {"class_path": "recon.data.Glyphs"}}, run=False).model
    assert built.branch == BranchOptions(layers=["conv2", "fc"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": ["fc"], "select": Rule(top=1)}, r"select: top: 1 needs a conflict map file"),
        ({"map": "map.json", "top": 2, "select": Rule(flops=0.1)}, "both select and top choose the layers; give one"),
        ({"map": "map.json", "growth": 0.1, "select": Rule(flops=0.1)}, "both select and growth choose the layers"),
        ({"map": "map.json", "groups": 2, "select": Rule(flops=0.1)}, "flops: 0.1 counts a copy per task; with groups"),
    ],
)
def test_a_rule_beside_another_choice_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BranchOptions(**options)


def test_a_rule_that_cannot_be_met_is_refused(tmp_path: Path) -> None:
    path = published(tmp_path, {"conv2": 9, "fc": 5, "conv1": 1})
    with pytest.raises(ValueError, match=r"the budget flops: 0\.5 needs the shape of an input to count FLOPs"):
        BranchOptions(map=path, select=Rule(flops=0.5)).apply(LeNet(), TASKS)
    with pytest.raises(ValueError, match=r"no layer that conflicts fits into parameters=1e-06; the cheapest"):
        BranchOptions(map=path, select=Rule(parameters=1e-6)).apply(LeNet(), TASKS)
    with pytest.raises(ValueError, match=r"select: threshold: 1 would branch all 3 shared layers"):
        BranchOptions(map=path, select=Rule(threshold=1)).apply(LeNet(), TASKS)
    for top in (3, 4):
        with pytest.raises(ValueError, match=f"top={top} would branch all 3 shared layers; leave at least one shared"):
            BranchOptions(map=path, select=Rule(top=top)).apply(LeNet(), TASKS)


def test_a_map_of_another_network_is_refused(tmp_path: Path) -> None:
    path = published(tmp_path, {"conv2": 9, "fc1": 5, "conv1": 1})
    with pytest.raises(ValueError, match=r"the conflict map of published.json does not fit: .*'fc1'"):
        BranchOptions(map=path, top=2).apply(LeNet(), TASKS)


def test_a_severity_that_the_map_does_not_know_is_refused(tmp_path: Path) -> None:
    path = published(tmp_path, {"conv2": 9, "fc": 5, "conv1": 1})
    with pytest.raises(ValueError, match=r"imported at severity -0\.1"):
        BranchOptions(map=path, top=2, severity=0.0).apply(LeNet(), TASKS)


def test_a_published_ranking_is_branched_by_its_name_at_its_own_severity() -> None:
    network = BranchOptions(map="cityscapes-segnet", top=2).apply(SegNet(width=2), TASKS)
    assert set(branched_layers(network)) == {"decoder_block.0.bn1", "conv_block_dec.1.bn1"}
    with pytest.raises(ValueError, match=r"severity -0\.1 of a map imported at severity 0\.0"):
        BranchOptions(map="cityscapes-segnet", top=2, severity=-0.1).apply(SegNet(width=2), TASKS)


def test_either_layers_or_a_map_say_what_to_branch() -> None:
    for given in ({}, {"layers": ["fc"], "map": "map.json"}):
        with pytest.raises(ValueError, match="either layer names"):
            BranchOptions(**given)


def test_an_unknown_layer_suggests_the_nearest() -> None:
    with pytest.raises(ValueError, match="unknown layer 'conv11' in LeNet; nearest: 'conv1'"):
        BranchOptions(layers=["conv11"]).apply(LeNet(), TASKS)


def searched(path: Path, severity_of: dict[str, float], tasks: tuple[str, ...] = ("a", "b", "c")) -> str:
    """A map of LeNet in which a and c agree, and b has this cosine with both in a layer."""
    shared = nn.ModuleDict({layer: module for layer, module in LeNet().named_children() if layer in severity_of})
    analyzer = ConflictAnalyzer(shared, tasks)
    gramians = [[[1, c, 0.5], [c, 1, c], [0.5, c, 1]] for c in (severity_of[layer] for layer in analyzer.layers)]
    analyzer.observe(torch.tensor(gramians, dtype=torch.float64))
    analyzer.conflict_map().save(path / "searched.json")
    return str(path / "searched.json")


COSINES = {"conv1": 0.1, "conv2": -0.5, "fc": -0.3}
AC_B = (("a", "c"), ("b",))


def test_groups_are_named_for_layers() -> None:
    network = BranchOptions(layers=["conv2", "fc"], groups={"fc": [["a", "c"], ["b"]]}).apply(LeNet(), ["a", "b", "c"])
    assert network.groups == {"conv2": (("a",), ("b",), ("c",)), "fc": AC_B}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"top": 2, "groups": "friends"}, {"conv2": AC_B, "fc": AC_B}),
        ({"top": 2, "groups": "friends", "severity": -0.4}, {"conv2": AC_B}),
        ({"top": 1, "groups": 3}, {"conv2": (("a",), ("b",), ("c",))}),
        ({"top": 1, "groups": {"conv2": [["a"], ["b", "c"]]}}, {"conv2": (("a",), ("b", "c"))}),
        ({"growth": 10.0}, {"conv2": AC_B, "fc": AC_B}),
        ({"growth": 10.0, "severity": -0.4}, {"conv2": AC_B}),
    ],
)
def test_a_map_chooses_groups(options: dict[str, Any], expected: dict[str, Any], tmp_path: Path) -> None:
    network = BranchOptions(map=searched(tmp_path, COSINES), **options).apply(LeNet(), ["a", "b", "c"])
    assert network.groups == expected


def test_groups_that_cannot_be_chosen_are_refused(tmp_path: Path) -> None:
    for options in ({"groups": 2}, {"groups": "friends"}, {"growth": 0.1}):
        with pytest.raises(ValueError, match="need a conflict map file"):
            BranchOptions(layers=["fc"], **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="both groups and growth"):
        BranchOptions(map="map.json", groups=2, growth=0.1)
    with pytest.raises(ValueError, match=r"map is of the tasks a, b, c, and cannot group a, b, d; search with these"):
        BranchOptions(map=searched(tmp_path, COSINES), groups=2).apply(LeNet(), ["a", "b", "d"])


@pytest.mark.parametrize("options", [{"top": 2}, {"top": 2, "groups": "friends"}, {"growth": 10.0}])
def test_the_choice_of_a_map_can_be_kept_by_name(options: dict[str, Any], tmp_path: Path) -> None:
    tasks, chosen = ["a", "b", "c"], BranchOptions(map=searched(tmp_path, COSINES), init="reset", **options)
    named = chosen.by_name(LeNet(), tasks)
    assert (named.map, named.growth, named.init, named.layers) == (None, None, "reset", ["conv2", "fc"])
    assert named.apply(LeNet(), tasks).groups == chosen.apply(LeNet(), tasks).groups
    assert named.by_name(LeNet(), tasks) is named


def test_the_number_of_layers_that_a_map_branches_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr("recon.training.branch_options.rank_zero_info", told.append)
    path = published(tmp_path, {"conv2": 9, "fc": 5, "conv1": 1})
    BranchOptions(map=path, top=2).apply(LeNet(), TASKS)
    assert told == [f"branch.top=2 branches so many of the 3 layers of {path}"]
    BranchOptions(layers=["fc"]).apply(LeNet(), TASKS)
    assert len(told) == 1


def test_more_layers_than_the_map_has_are_refused_by_the_name_of_the_option(tmp_path: Path) -> None:
    path = published(tmp_path, {"conv2": 9, "fc": 5, "conv1": 1})
    with pytest.raises(ValueError, match=r"top=25 of 3 layers; give a number from 1 to 3"):
        BranchOptions(map=path).apply(LeNet(), TASKS)


DRAWN: dict[str, Callable[[], nn.Module]] = {
    "mmoe": lambda: MMoE(lambda: MLP(6, [4]), experts=2, gate_inputs=6),
    "dselect_k": lambda: DSelectK(lambda: MLP(6, [4]), experts=3, gate_inputs=6),
    "cgc": lambda: CGC(lambda: MLP(6, [4]), own=2, gate_inputs=6),
    "mtan": lambda: MTAN(ResNet18(width=2, features=5), {"layer1": 2, "layer2": 4}, expansion=1),
    "segnet_mtan": lambda: SegNetMTAN(width=2),
}


@pytest.mark.parametrize("init", ["copy", "reset"])
@pytest.mark.parametrize("name", DRAWN)
def test_every_task_draws_its_own_gates_experts_and_masks(name: str, init: NamedInit) -> None:
    torch.manual_seed(0)
    backbone = DRAWN[name]()
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    own = backbone.task_specific_layers()
    first_shared = next(layer for layer in shared_layers(backbone) if layer not in own)
    network = BranchOptions(layers=[first_shared], init=init).apply(backbone, ["a", "b", "c"])
    state = network.state_dict()
    for key in before:
        tasks = [state[f"branches.{task}.{key}"] for task in "abc" if f"branches.{task}.{key}" in state]
        starts = {tuple(copy.flatten().tolist()) for copy in (*tasks, before[key])}
        drawn = key.rpartition(".")[0] in own and before[key].unique().numel() > 1 and "num_batches" not in key
        if drawn:
            assert len(starts) == 4, key
        elif tasks and init == "copy":
            assert len(starts) == 1, key
        elif not tasks:
            assert torch.equal(state[f"shared.{key}"], before[key])
    assert all(torch.equal(before[key], value) for key, value in backbone.state_dict().items())


def test_own_experts_are_drawn_by_the_function_that_makes_experts() -> None:
    numbers = count(1)

    def expert() -> nn.Module:
        made = MLP(6, [4])
        nn.init.constant_(made[0].weight, next(numbers))  # type: ignore[arg-type]
        return made

    cgc = deepcopy(CGC(expert, gate_inputs=6))  # one expert of its own, one shared
    state = BranchOptions(layers=[]).apply(cgc, TASKS).state_dict()
    values = [state[f"branches.{task}.own.0.0.weight"].unique().tolist() for task in TASKS]
    assert values == [[3.0], [4.0]]


def test_a_network_whose_experts_a_function_makes_is_saved_without_it() -> None:
    cgc = pickle.loads(pickle.dumps(CGC(lambda: MLP(6, [4]), gate_inputs=6)))
    network = BranchOptions(layers=[]).apply(cgc, TASKS)
    for task in TASKS:
        assert torch.equal(network.state_dict()[f"branches.{task}.own.0.0.weight"], cgc.own[0][0].weight)


def test_experts_that_are_copies_of_a_module_stay_copies_and_gates_are_drawn() -> None:
    torch.manual_seed(0)
    network = BranchOptions(layers=[]).apply(CGC(MLP(6, [4]), gate_inputs=6), TASKS).state_dict()
    own, gates = ([network[f"branches.{t}.{key}.weight"] for t in TASKS] for key in ("own.0.0", "gate"))
    assert torch.equal(*own) and not torch.equal(*gates)


def tree(path: Path, tasks: str = "abc", **layers: list[list[str]]) -> str:
    stages = tuple(TreeStage(layer, tuple(map(tuple, groups)), (layer,)) for layer, groups in layers.items())
    TaskTree(tuple(tasks), stages).save(path / "tree.json")
    return str(path / "tree.json")


def test_a_task_tree_is_built(tmp_path: Path) -> None:
    path = tree(tmp_path, conv1=[["a", "b", "c"]], conv2=[["a", "c"], ["b"]])
    assert BranchOptions(tree=path).apply(LeNet(), ["a", "b", "c"]).groups == {"conv2": AC_B}
    shared = tree(tmp_path, conv1=[["a", "b", "c"]])
    backbone = LeNet()
    assert BranchOptions(tree=shared).apply(backbone, ["a", "b", "c"]) is backbone


APART = (("a",), ("b",), ("c",))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"layers": ["fc"]}, {"fc": APART, "conv2": AC_B}),
        ({"layers": ["conv2"]}, {"conv2": APART}),
        ({"layers": ["fc"], "groups": {"fc": [["a", "c"], ["b"]]}}, {"fc": AC_B, "conv2": AC_B}),
        ({"groups": {"conv2": [["a"], ["b", "c"]]}}, {"conv2": APART}),
        ({"map": 1, "top": 1}, {"fc": APART, "conv2": AC_B}),
        ({"map": 1, "top": 1, "groups": "friends"}, {"fc": AC_B, "conv2": AC_B}),
        ({"map": 3, "top": 1}, {"conv2": APART}),
        ({"map": 3, "top": 2, "groups": 2}, {"conv2": AC_B, "fc": AC_B}),
    ],
)
def test_recon_goes_on_top_of_a_task_tree(options: dict[str, Any], expected: dict[str, Any], tmp_path: Path) -> None:
    maps = {1: {"conv1": 0.1, "fc": -0.3}, 3: COSINES}  # of the network with the tree, and of the plain one
    path = tree(tmp_path, conv1=[["a", "b", "c"]], conv2=[["a", "c"], ["b"]])
    if "map" in options:
        options = {**options, "map": searched(tmp_path, maps[options["map"]])}
    network = BranchOptions(tree=path, **options).apply(LeNet(), ["a", "b", "c"])
    assert network.groups == expected


def test_trees_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = tree(tmp_path, "ab", conv2=[["a"], ["b"]])
    with pytest.raises(ValueError, match="is of the tasks a, b, and does not fit a, b, c; search with these tasks"):
        BranchOptions(tree=path).apply(LeNet(), ["a", "b", "c"])
    path = tree(tmp_path, "ab", conv9=[["a"], ["b"]])
    with pytest.raises(ValueError, match="unknown layer 'conv9' in LeNet; nearest: 'conv"):
        BranchOptions(tree=path).apply(LeNet(), ["a", "b"])
    path = tree(tmp_path, conv2=[["a"], ["b", "c"]])
    with pytest.raises(ValueError, match="the network lacks 1 of its 2 layers"):
        found = searched(tmp_path, {"conv1": 0.1, "conv2": -0.5})
        BranchOptions(tree=path, map=found, top=1).apply(LeNet(), ["a", "b", "c"])
