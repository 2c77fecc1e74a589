"""Networks and data modules are named in YAML by their class path."""

from pathlib import Path

import pytest
from jsonargparse import ArgumentParser
from pytorch_lightning import LightningDataModule
from torch import nn

from recon.data import Glyphs, MultiFashionMNIST, Rooms


def instantiate(base: type, class_path: str, **init_args: object) -> object:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--part", type=base)
    config = parser.parse_object({"part": {"class_path": class_path, "init_args": init_args}})
    return parser.instantiate(config).part


@pytest.mark.parametrize(
    ("class_path", "init_args", "num_features"),
    [
        ("recon.models.ResNet18", {"width": 4}, 100),
        ("recon.models.LeNet", {}, 50),
        ("recon.models.timm_backbone", {"name": "test_resnet"}, 96),
    ],
)
def test_a_backbone_comes_from_its_class_path(class_path: str, init_args: dict[str, object], num_features: int) -> None:
    backbone = instantiate(nn.Module, class_path, **init_args)
    assert isinstance(backbone, nn.Module)
    assert backbone.num_features == num_features


def test_a_data_module_comes_from_its_class_path(tmp_path: Path) -> None:
    data = instantiate(LightningDataModule, "recon.data.MultiFashionMNIST", root=str(tmp_path), train_size=5)
    assert isinstance(data, MultiFashionMNIST)
    assert data.sizes["train"] == 5
    assert isinstance(instantiate(LightningDataModule, "recon.data.Glyphs"), Glyphs)


def test_a_class_path_from_before_a_renaming_still_makes_the_class() -> None:
    with pytest.warns(FutureWarning, match=r"recon\.data\.Scenes is now recon\.data\.Rooms"):
        data = instantiate(LightningDataModule, "recon.data.Scenes", train_size=5)
    assert isinstance(data, Rooms)
    assert data.rooms.train_size == 5
