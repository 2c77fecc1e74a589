"""A plan's fit section, and what is made of it."""

import copy
from typing import Any

import pytest

from recon.experiments.fit import Fit
from recon.models import LeNet

SECTION: dict[str, Any] = {
    "trainer": {"max_epochs": 1, "accelerator": "cpu"},
    "model": {"backbone": {"class_path": "recon.models.LeNet"}, "update_scale": "sum"},
    "data": {"class_path": "recon.data.Glyphs", "init_args": {"train_size": 8, "test_size": 8}},
}


def test_a_fit_makes_data_backbone_and_tasks() -> None:
    fit = Fit(SECTION)
    assert [task.name for task in fit.tasks()] == ["digit", "letter"]
    assert isinstance(fit.backbone(), LeNet)
    assert fit.backbone() is not fit.backbone()


def test_other_values_stand_for_those_of_the_section_which_stays_as_it_is() -> None:
    section = copy.deepcopy(SECTION)
    changed = Fit(section).with_model({"method": "mgda", "update_scale": "own"}, seed_everything=3).configuration
    assert changed["model"] == {**SECTION["model"], "method": "mgda", "update_scale": "own"}
    assert changed["seed_everything"] == 3
    changed["data"]["init_args"]["train_size"] = 1
    assert section == SECTION


def test_the_root_is_that_of_the_data() -> None:
    fit = Fit(SECTION, "somewhere")
    assert fit.configuration["data"]["init_args"] == {"train_size": 8, "test_size": 8, "root": "somewhere"}
    assert fit.with_model({}).root == "somewhere"
    with pytest.raises(ValueError, match=r"fit\.data: recon\.data\.Glyphs: unknown option 'root'"):
        fit.data()


def test_without_files_no_weights_are_downloaded_for_parts_of_an_architecture_either() -> None:
    expert = {"class_path": "recon.models.DilatedResNet50", "init_args": {"pretrained": True}}
    backbone = {"class_path": "recon.models.PLE", "init_args": {"levels": [expert], "gate_inputs": 3}}
    found = Fit({**SECTION, "model": {"backbone": backbone}}).without_files().section["model"]["backbone"]
    assert found["init_args"] == {"levels": [{**expert, "init_args": {"pretrained": False}}], "gate_inputs": 3}
    assert expert["init_args"]["pretrained"]


def test_an_architecture_is_made_for_the_tasks_of_the_data_or_of_the_run() -> None:
    backbone = {
        "class_path": "recon.models.CrossStitch",
        "init_args": {"backbone": {"class_path": "recon.models.LeNet"}, "stages": ["conv1"]},
    }
    section = Fit({**SECTION, "model": {"backbone": backbone}})
    assert section.backbone().tasks == ("digit", "letter")
    assert section.with_model({"only": ["letter"]}).backbone().tasks == ("letter",)


def test_an_unknown_class_of_data_suggests_the_nearest() -> None:
    fit = Fit({"data": {"class_path": "recon.data.Glyps"}, "model": {"backbone": {}}})
    with pytest.raises(ValueError, match=r"'recon\.data\.Glyps', which cannot .*; nearest: 'recon\.data\.Glyphs'"):
        fit.without_files()
