"""The keys of the built-in data modules in YAML and on the command line, with those that they pass on."""

import pytest
from jsonargparse import ArgumentParser

import recon.data

COMPOSITES = {"train_size", "test_size", "batch_size", "eval_batch_size", "seed", "shuffle_seed", "held_out"}
DENSE = {"root", "tasks", "height", "width", "batch_size", "eval_batch_size"}
DENSE |= {"augment", "aggregation", "num_workers", "shuffle_seed", "held_out"}

TABULAR = {"root", "batch_size", "eval_batch_size", "val_size", "seed", "shuffle_seed", "held_out"}

KEYS = {
    "CelebA": {"root", "batch_size", "tasks", "size", "eval_batch_size", "shuffle_seed", "held_out"},
    "CensusIncome": TABULAR,
    "Yeast": TABULAR | {"split_seed"},
    "Glyphs": COMPOSITES,
    "GlyphAttributes": COMPOSITES | {"attributes"},
    "MultiFashionMNIST": COMPOSITES | {"root"},
    "MultiFashion": COMPOSITES | {"root"},
    "MultiMNIST": COMPOSITES | {"root"},
    "NYUv2": DENSE,
    "PascalContext": DENSE - {"height", "width"} | {"size"},
    "CityScapes": DENSE | {"classes"},
    "Rooms": DENSE | {"train_size", "val_size", "seed", "depth"},
}


@pytest.mark.parametrize("name", KEYS)
def test_a_data_module_takes_its_keys_and_explains_each(name: str) -> None:
    parser = ArgumentParser()
    parser.add_class_arguments(getattr(recon.data, name), "data")
    assert set(parser.get_defaults().data.as_dict()) == KEYS[name]
    explained = {action.dest.removeprefix("data.") for action in parser._actions if action.help}
    assert explained >= KEYS[name]
