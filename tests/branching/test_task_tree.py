"""Task trees as files: read back as written, and refused when foreign, damaged or impossible."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import recon
from recon.branching.task_tree import TaskTree, TreeStage, tree_stage
from recon.files.checksum import sealed
from recon.models import LeNet

ABC = ("a", "b", "c")
TREE = TaskTree(
    ABC,
    (
        tree_stage("conv1", [["a", "b", "c"]], ["conv1"], [[0.75, 0.25], [0.9, 0.1], [0.7, 0.3]]),
        tree_stage("conv2", [["a", "c"], ["b"]], ["conv2"], [[0.75, 0.25], [0.1, 0.9], [0.7, 0.3]]),
    ),
    {"lr": 0.01, "temperatures": [5.0, 0.1]},
    {"network": "LeNet"},
)


def test_a_tree_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "new" / "tree.json"
    TREE.save(path)
    assert TaskTree.load(path) == TREE
    assert [file.name for file in path.parent.iterdir()] == ["tree.json"]
    record = json.loads(path.read_text())
    assert record["stages"][1]["groups"] == [["a", "c"], ["b"]] and record["settings"]["lr"] == 0.01
    assert '\n  {"name": "conv2"' in path.read_text(), "one stage a line"


def test_branch_builds_the_tree_with_weights_of_the_backbone() -> None:
    backbone = LeNet()
    network = recon.branch(backbone, [*TREE.groups], TREE.tasks, groups=TREE.groups)
    assert network.groups == {"conv2": (("a", "c"), ("b",))}
    assert torch.equal(network.branches["b"].conv2.weight, backbone.conv2.weight)


def altered(tmp_path: Path, seal: bool = True, **changes: Any) -> Path:
    TREE.save(tmp_path / "tree.json")
    record = {**json.loads((tmp_path / "tree.json").read_text()), **changes}
    (tmp_path / "tree.json").write_text(json.dumps(sealed(record) if seal else record))
    return tmp_path / "tree.json"


STAGE = {"name": "conv1", "groups": [["a", "b", "c"]], "layers": ["conv1"], "probabilities": []}


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"format": "recon-conflict-map"}, "is no task tree: its 'format' is 'recon-conflict-map'.*give a file that"),
        ({"version": 2}, "a task tree of version 2, and this recon reads version 1; read it with the recon"),
        ({"tasks": ["a", "b"]}, "damaged task tree: .*'c'"),
        ({"tasks": [1, 2, 3]}, "damaged task tree: tasks is .*, not a list of names; restore it or search again"),
        ({"stages": [{**STAGE, "groups": [["a", "b"]]}]}, "the groups of layer 'conv1' miss 'c'"),
        ({"stages": [{**STAGE, "groups": "abc"}]}, "'groups' of stage number 0 is 'abc'"),
        ({"stages": [{**STAGE, "probabilities": [["x"]]}]}, "probabilities of stage number 0 are no lists of numbers"),
        ({"stages": [STAGE, STAGE]}, "layer 'conv1' is in 2 stages"),
        ({"stages": [{"name": "conv1"}]}, "stage number 0 has no 'groups'"),
        ({"settings": []}, "'settings' of the tree is \\[\\]"),
    ],
)
def test_foreign_and_damaged_files_are_refused(changes: dict[str, Any], text: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=text):
        TaskTree.load(altered(tmp_path, **changes))


def test_an_edited_or_cut_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="its checksum is not that of what it holds"):
        TaskTree.load(altered(tmp_path, seal=False, settings={}))
    path = altered(tmp_path)
    record = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in record.items() if key != "checksum"}))
    with pytest.raises(ValueError, match="it has no 'checksum'"):
        TaskTree.load(path)
    path.write_text(path.read_text()[:-20])
    with pytest.raises(ValueError, match="is truncated or not JSON"):
        TaskTree.load(path)
    with pytest.raises(
        FileNotFoundError, match=r"there is no task tree .*; the path is relative to .*, and recon search"
    ):
        TaskTree.load(tmp_path / "none.json")


def test_a_stage_cannot_join_tasks_that_were_parted() -> None:
    with pytest.raises(ValueError, match="stage 'conv2' joins tasks that the stage before it has parted"):
        TaskTree(ABC, (TreeStage("conv1", (("a",), ("b", "c")), ()), TreeStage("conv2", (("a", "b"), ("c",)), ())))


def test_other_tasks_are_refused_with_the_cure() -> None:
    TREE.check_tasks(["c", "b", "a"])
    with pytest.raises(ValueError, match="is of the tasks a, b, c, and does not fit a, b; search with these tasks"):
        TREE.check_tasks(["a", "b"])
