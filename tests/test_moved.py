"""Old places of modules and classes still lead to the new ones, with a warning."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path
from pkgutil import resolve_name

import pytest

import recon
from recon.moved import MODULES, NAMES, _told, with_new_names

OLD = {
    "recon.losses:masked_l1": "recon.tasks.losses:masked_l1",
    "recon.metrics:MeanAngle": "recon.tasks.metrics:MeanAngle",
    "recon.names:unknown_name": "recon.errors:unknown_name",
    "recon.names:check_task_names": "recon.tasks.names:check_task_names",
    "recon.methods.method:GramianMethod": "recon:GramianMethod",
    "recon.methods.method:StatefulMethod": "recon.methods:StatefulMethod",
    "recon.methods.simplex:LearnedWeights": "recon.methods.base.learned_weights:LearnedWeights",
    "recon.data.nyuv2:NYUv2": "recon.data:NYUv2",
    "recon.data.multi_fashion_mnist:MultiFashionMNIST": "recon.data:MultiFashionMNIST",
    "recon.models.resnet:ResNet18": "recon.models:ResNet18",
    "recon.step_info:StepInfo": "recon:StepInfo",
    "recon.toy:toy": "recon.experiments.toy:toy",
}
# These names became packages, which hand on what the modules had.
KEPT = ("gradients:shared_layers", "gradients:TaskGradients", "tasks:Aggregation", "tasks:segmentation")
KEPT += ("engine:Engine", "data.dense:DenseDataModule", "data.composites:CompositesModule", "experiments.report:Report")


@pytest.fixture(autouse=True)
def not_yet_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    _told.clear()
    for old in MODULES:
        monkeypatch.delitem(sys.modules, old, raising=False)


@pytest.mark.parametrize(("old", "new"), OLD.items())
def test_an_old_place_leads_to_the_new_one(old: str, new: str) -> None:
    with pytest.warns(FutureWarning, match=f"{old.split(':')[0]} is now recon") as caught:
        assert resolve_name(old) is resolve_name(new)
    assert len(caught) == 1


@pytest.mark.parametrize("kept", KEPT)
@pytest.mark.filterwarnings("error")
def test_a_module_that_became_a_package_hands_on_its_names(kept: str) -> None:
    assert resolve_name(f"recon.{kept}") is not None


@pytest.mark.parametrize("old", MODULES)
def test_every_old_module_leads_somewhere_and_is_there_no_more(old: str) -> None:
    with pytest.warns(FutureWarning, match=f"^{old} is now {MODULES[old][0]}; the old name goes in version"):
        import_module(old)
    for new in MODULES[old]:
        assert import_module(new).__name__ == new


@pytest.mark.parametrize("old", NAMES)
def test_an_old_name_of_a_package_leads_to_the_new_one(old: str) -> None:
    with pytest.warns(FutureWarning, match=f"^{old} is now {NAMES[old]}; "):
        assert resolve_name(old) is resolve_name(NAMES[old])


def test_a_name_that_an_old_module_never_had_is_unknown() -> None:
    with (
        pytest.warns(FutureWarning),
        pytest.raises(AttributeError, match=r"'recon\.losses' is now recon\.tasks\.losses"),
    ):
        resolve_name("recon.losses:nothing")


def test_the_warning_is_shown_and_names_the_line_that_imports(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("import recon\n\nfrom recon.toy import toy\n")
    ran = subprocess.run(
        [sys.executable, program], capture_output=True, text=True, check=True, env={"PYTHONPATH": ":".join(sys.path)}
    )
    assert f"{program}:3: FutureWarning: recon.toy is now recon.experiments.toy" in ran.stderr


def test_what_is_new_is_not_listed_under_old_names() -> None:
    assert not {"losses", "metrics", "toy"} & set(dir(recon))


def test_an_old_name_is_told_once() -> None:
    with pytest.warns(FutureWarning) as caught:
        for _ in range(3):
            resolve_name("recon.data:Scenes")
    assert len(caught) == 1


@pytest.mark.parametrize(
    "old", ["recon.models:resnet.ResNet18", "recon.methods:method.Method", "recon.data:nyuv2.NYUv2"]
)
def test_an_old_module_is_an_attribute_of_its_package(old: str) -> None:
    package, _, path = old.partition(":")
    module, _, name = path.partition(".")
    vars(import_module(package)).pop(module, None)  # an import of the old place leaves it there
    with pytest.warns(FutureWarning, match=f"^{package}.{module} is now "):
        assert resolve_name(old) is getattr(import_module(package), name)


def test_configurations_get_the_new_names_of_classes_and_keep_all_other_text() -> None:
    old = {"data": {"class_path": "recon.data.Scenes"}, "model": ["recon.models.lenet.LeNet", "recon.toy"]}
    new = {"data": {"class_path": "recon.data.Rooms"}, "model": ["recon.models.backbones.lenet.LeNet", "recon.toy"]}
    assert with_new_names(old) == new
