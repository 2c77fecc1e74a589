"""What data modules say beside Lightning's loaders, and what becomes of those that do not."""

from pathlib import Path

import pytest
from pytorch_lightning import LightningDataModule

from recon.data import (
    CelebA,
    CensusIncome,
    CityScapes,
    GlyphAttributes,
    Glyphs,
    MultiFashion,
    MultiFashionMNIST,
    MultiMNIST,
    NYUv2,
    PascalContext,
    Yeast,
)
from recon.data.contract import DataModule, dataset_name_of, input_shape_of, reads_files, tasks_of

BUILT_IN = (Glyphs, GlyphAttributes)


@pytest.mark.parametrize(
    "build",
    [
        *(Glyphs, GlyphAttributes, MultiFashion, MultiFashionMNIST, MultiMNIST),
        *(NYUv2, CityScapes, PascalContext, CelebA, CensusIncome, Yeast),
    ],
)
def test_built_in_data_modules_fulfil_the_contract(build: type[LightningDataModule], tmp_path: Path) -> None:
    data = build() if build in BUILT_IN else build(root=tmp_path)
    told: DataModule = data  # type: ignore[assignment]
    assert tasks_of(data) == told.tasks
    assert input_shape_of(data) == told.input_shape
    assert dataset_name_of(data) == told.dataset_name
    assert told.dataset_name.startswith(build.__name__)
    assert reads_files(data) == (build not in BUILT_IN)


def test_data_that_say_nothing_are_named_by_their_class_and_refused_where_more_is_needed() -> None:
    data = LightningDataModule()
    assert dataset_name_of(data) == "LightningDataModule"
    assert not reads_files(data)
    with pytest.raises(ValueError, match="LightningDataModule has no tasks; give data whose attribute `tasks`"):
        tasks_of(data)
    with pytest.raises(ValueError, match="LightningDataModule has no input_shape, by which FLOPs are counted"):
        input_shape_of(data)


def test_without_data_there_are_no_tasks() -> None:
    with pytest.raises(ValueError, match="there is no data module; give data"):
        tasks_of(None)
