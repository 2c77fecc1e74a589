from pathlib import Path
from typing import Any

import pytest
import yaml
from some_plans import CONTENT, changed, other_network, own_tree

from recon.experiments import Plan


def test_ids_are_held_against_each_other_with_the_names_of_the_tasks_too() -> None:
    plan = Plan.from_dict({**CONTENT, "methods": [{"method": "joint", "name": "single", "variants": ["plain"]}]})
    plan.check()
    with pytest.raises(ValueError, match="two runs are called 'single-plain-seed0'"):
        plan.check_runs(["plain", "b"])


def test_a_plan_survives_yaml_and_json(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(yaml.safe_dump(CONTENT))
    plan = Plan.load(path)
    assert plan == Plan.from_dict(CONTENT)
    assert Plan.from_dict(plan.to_dict()) == plan


@pytest.mark.parametrize(("seeds", "expected"), [(3, (0, 1, 2)), ([4, 7], (4, 7))])
def test_one_key_gives_seeds_to_the_entries_that_name_none(seeds: Any, expected: tuple[int, ...]) -> None:
    plan = Plan.from_dict({**CONTENT, "seeds": seeds})
    assert [entry.seeds for entry in plan.methods] == [(0, 1), expected]
    assert plan == Plan.from_dict(changed("methods.1.seeds", list(expected)))
    assert Plan.from_dict(plan.to_dict()) == plan


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (changed("seeds", "five"), "seeds must be a number of seeds from 1, or a list of them, got 'five'"),
        (changed("seeds", 0), "seeds must be a number of seeds from 1, or a list of them, got 0"),
        (changed("seeds", []), r"seeds must be a number of seeds from 1, or a list of them, got \[\]"),
        (changed("seeds", [0.5]), r"methods\[1\].seeds\[0\] must be a whole number, got 0.5"),
        (changed("toop", 3), "unknown key 'toop'; nearest: 'top'"),
        (changed("methods.0.variant", ["plain"]), r"unknown key 'variant' in methods\[0\]; nearest: 'variants'"),
        (changed("name"), "lacks the key 'name'"),
        (changed("methods"), "lacks the key 'methods'"),
        (changed("methods.0.method"), r"methods\[0\] lacks the key 'method'"),
        (changed("methods.0.seeds", 0), r"methods\[0\].seeds must be a list, got 0"),
        (changed("methods.0.seeds", ["0"]), r"methods\[0\].seeds\[0\] must be a whole number, got '0'"),
        (changed("methods.0.variants", "plain"), r"methods\[0\].variants must be a list, got 'plain'"),
        (changed("methods.1.options", ["c"]), r"methods\[1\].options must be a mapping of keys, got \['c'\]"),
        (changed("methods", "joint"), "methods must be a list, got 'joint'"),
        (changed("methods", ["joint"]), r"methods\[0\] must be a mapping of keys, got 'joint'"),
        (changed("top", True), "top must be a whole number, got True"),
        (changed("severity", "-0.1"), "severity must be a number, got '-0.1'"),
        (changed("single", "no"), "single must be true or false, got 'no'"),
        (changed("map", 3), "map must be text, got 3"),
        (changed("imports", "mine"), "imports must be a list, got 'mine'"),
        (changed("init", "rest"), "unknown init 'rest'; nearest: 'reset'"),
        (changed("fit", [1]), r"fit must be a mapping of keys, got \[1\]"),
        (changed("fit.trainer"), "fit.trainer.max_epochs is missing"),
        (changed("fit.trainer", {"max_epoch": 2}), "fit.trainer.max_epochs is missing"),
        (
            changed("fit.trainer.max_epochs", -1),
            "fit.trainer.max_epochs must be a whole number of epochs from 1, got -1",
        ),
        (changed("fit.model.backbone"), "fit.model.backbone is missing"),
        (changed("fit.data", "recon.data.Glyphs"), "fit.data.class_path is missing"),
        (changed("fit.model.method", "mgda"), "fit.model.method is set by the benchmark"),
        (changed("fit.model.at", "representation"), "fit.model.at is set by the benchmark"),
        (changed("fit.model.granularity", "layer"), "fit.model.granularity is set by the benchmark"),
        (changed("fit.model.memory", "gramian"), "fit.model.memory is set by the benchmark"),
        (changed("methods.1.memory", "gramien"), "unknown methods.1..memory 'gramien'; nearest: 'gramian'"),
        (changed("methods.1.granularity", "layers"), "unknown methods.1..granularity 'layers'; nearest: 'layer'"),
        (
            changed("methods.1.at", "representations"),
            "unknown methods.1..at 'representations'; nearest: 'representation'",
        ),
        (
            changed("fit.trainer.fast_dev_run", True),
            "fit.trainer.fast_dev_run: True tries one batch, which is no result",
        ),
        (changed("fit.trainer.overfit_batches", 3), "fit.trainer.overfit_batches: 3 trains on a few batches"),
        (changed("fit.trainer.max_time", "00:00:10:00"), "fit.trainer.max_time: 00:00:10:00 ends each run"),
        (changed("fit.trainer.max_steps", 0), "fit.trainer.max_steps must be .* from 1, or -1 for all, got 0"),
        (
            changed("fit.trainer.limit_test_batches", 0),
            "fit.trainer.limit_test_batches is 0, so nothing would be tested",
        ),
        (
            changed("fit.trainer.limit_train_batches", 0.0),
            "fit.trainer.limit_train_batches is 0.0, so nothing would be trained",
        ),
        (changed("fit.trainer.plugins", []), "fit.trainer.plugins is set by the benchmark"),
        (changed("fit.seed_everything", 3), "fit.seed_everything is set by the benchmark"),
        ([1], r"a plan must be a mapping of keys, got \[1\]"),
        (None, "a plan must be a mapping of keys, got None"),
    ],
)
def test_what_is_no_plan_is_refused_with_plan_and_key(content: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(ValueError, match=rf"plan {path}: (it )?{message}"):
        Plan.load(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (changed("methods.1.method", "cagrat"), "unknown method 'cagrat'; nearest: 'cagrad'"),
        (changed("methods.1.options", {"d": 1}), "unknown hyperparameter 'd' in method 'cagrad'"),
        (changed("methods.1.options", {"c": -1}), "cagrad: c must be"),
        (changed("methods.1.variants", ["recn"]), "unknown variant 'recn' in method cagrad; nearest: 'recon'"),
        (changed("methods.1.variants", ["single"]), "unknown variant 'single'"),
        (changed("methods.1.seeds", [2]), "cagrad-recon-seed2 takes its layers from joint-plain-seed2"),
        (changed("methods.1", {"method": "joint"}), "two runs are called 'joint-plain-seed0'"),
        (changed("methods.1.seeds", [0, 0]), "two runs are called 'cagrad-plain-seed0'"),
        (changed("methods.1.name", "a/b"), "the name of the entry cagrad is 'a/b', which has '/', so no folder"),
        (changed("methods.1.name", "a" * 151), "which has 151 bytes, more than 150"),
        (changed("methods.1.name", "joint"), "an entry named 'joint' runs cagrad, and conflict maps are joint's"),
        (changed("methods.1.name", "JOINT"), "two runs are called 'joint-plain-seed0'"),
        (changed("name", "../../x"), r"the name of the plan is '../../x', which has '/'"),
        (changed("name", ".."), "begins or ends with a space or a point"),
        (changed("methods.1.seeds", [2**32]), "method cagrad has the seed 4294967296; a seed is from 0 to"),
        (changed("methods.1.seeds", [-1]), "method cagrad has the seed -1"),
        (changed("methods.1.seeds", []), "method cagrad has no seeds"),
        (changed("methods.1.variants", []), "method cagrad has no variants"),
        (changed("methods.1.at", "representation"), r"cagrad: a branched network has no single .*: \[plain\], got"),
        (changed("methods.0.granularity", "layer"), r"Joint weights losses, which are .*aligned_mtl, cagrad, .*upgrad"),
        (changed("methods.0.granularity", {"stem": ["conv1"]}), r"Joint weights losses, which are the same"),
        (changed("methods.0.at", "representation"), r"Joint weights losses .*aligned_mtl, cagrad, .*upgrad"),
        (changed("methods.1", {"method": "graddrop", "memory": "gramian"}), "GradDrop combines the task gradients"),
        (
            changed("methods.1", {"method": "mgda", "memory": "gramian", "granularity": "layer"}),
            "memory='gramian' makes the update by one backward",
        ),
        (other_network(name=""), "method cagrad has a model of its own; give the entry a name"),
        (other_network(name="joint", method="joint", options={}), "an entry named 'joint' has a model of its own"),
        (other_network(model={"branch": {}}), r"method small: model\.branch is set by the benchmark"),
        (other_network(variants=["recon"]), "small has a model of its own, and no joint entry has the same"),
        (own_tree(name=""), "method cagrad has a tree of its own; give the entry a name"),
        (own_tree(name="joint", method="joint", options={}), "an entry named 'joint' has a tree of its own"),
        (own_tree(variants=["recon"]), "small has a tree of its own, and no joint entry has the same"),
        (changed("severity", -0.123), "severity -0.123 is not on the 0.01 grid"),
        (changed("top", 0), "top must be at least 1, got 0"),
        (changed("every", 0), "every must be at least 1, got 0"),
        (changed("methods", []), "there is nothing to run"),
    ],
)
def test_names_and_values_are_checked(content: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Plan.from_dict(content).check()


def test_one_method_can_stand_twice_under_two_names() -> None:
    entries = [
        {"method": "joint"},
        {"method": "cagrad", "name": "cagrad-c1", "options": {"c": 1}},
        {"method": "cagrad"},
    ]
    plan = Plan.from_dict({**CONTENT, "methods": entries})
    plan.check()
    assert {run.label for run in plan.runs([])} == {"joint", "cagrad", "cagrad-c1"}


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cannot read the plan .*nowhere.yaml"):
        Plan.load(tmp_path / "nowhere.yaml")
    path = tmp_path / "plan.yaml"
    for content in (b"a: [1", b"\xff\xfe\x00"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"cannot read the plan .*plan.yaml"):
            Plan.load(path)


def test_a_map_that_no_variant_uses_is_refused() -> None:
    content = {**CONTENT, "methods": [{"method": "joint", "variants": ["plain"], "map": "map.json"}]}
    with pytest.raises(ValueError, match="method joint has a map and no variant 'recon'"):
        Plan.from_dict(content).check()


def test_numbers_are_read_as_recon_fit_reads_them(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    famo = {"method": "famo", "options": {"lr": "LR"}, "variants": ["plain"]}
    path.write_text(yaml.safe_dump({**CONTENT, "methods": [famo]}).replace("LR", "1e-2"))
    plan = Plan.load(path)
    assert plan.methods[0].options == {"lr": 0.01}
    plan.check()
