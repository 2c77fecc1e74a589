"""The key ``select`` of plans: the layers of runs, and rules that are refused before training."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from some_jobs import configuration_of, fit, prepare, run_directory, runs_of

from recon.conflict import ConflictMap, Rule
from recon.data import Glyphs
from recon.experiments import Plan
from recon.models import ResNet18

PlanFactory = Callable[..., Plan]
Searched = tuple[Plan, Path, dict[str, Any]]

PUBLISHED = "multi-fashion-mnist-resnet18"
RESNET = fit(model={"backbone": {"class_path": "recon.models.ResNet18", "init_args": {"width": 2}}})
BRANCHING = ["recon", "random", "first", "last"]


def layers_of(plan: Plan, run_id: str, out: Path) -> list[str]:
    layers: list[str] = configuration_of(plan, runs_of(plan)[run_id], out)["model"]["branch"]["layers"]
    return layers


def test_recon_branches_what_the_rule_selects_and_controls_as_many(tiny: PlanFactory, tmp_path: Path) -> None:
    entry: dict[str, Any] = {"method": "joint", "variants": BRANCHING, "select": {"flops": 0.5, "parameters": 0.1}}
    plan = tiny(fit=RESNET, map=PUBLISHED, methods=[entry])
    plan.check()
    branched = {variant: layers_of(plan, f"joint-{variant}-seed0", tmp_path) for variant in BRANCHING}
    given = {"inputs": torch.zeros(1, *Glyphs().input_shape), "tasks": ["digit", "letter"]}
    published = ConflictMap.load(PUBLISHED)
    assert branched["recon"] == published.select(-0.1, **entry["select"], backbone=ResNet18(width=2), **given)
    assert {len(layers) for layers in branched.values()} == {len(branched["recon"])}
    assert len({frozenset(layers) for layers in branched.values()}) == 4


def test_a_rule_of_the_plan_counts_unless_an_entry_has_its_own() -> None:
    content = {"name": "tiny", "fit": RESNET, "select": {"blocks": 2}}
    entries = [{"method": "joint"}, {"method": "joint", "name": "few", "top": 3}]
    entries.append({"method": "joint", "name": "cheap", "select": {"flops": 0.25, "top": 4}})
    plan = Plan.from_dict({**content, "methods": entries})
    assert list(map(plan.rule_of, plan.methods)) == [Rule(blocks=2), Rule(top=3), Rule(flops=0.25, top=4)]
    assert Plan.from_dict(plan.to_dict()) == plan


def test_controls_wait_for_the_map_that_says_how_many_layers_they_branch(tiny: PlanFactory, searched: Searched) -> None:
    out = searched[1]
    found = ConflictMap.load(run_directory(out, "joint-plain-seed0") / "conflict_map.json")
    rule = {"parameters": 0.9}
    plan = tiny(
        methods=[{"method": "joint"}, {"method": "joint", "name": "cheap", "variants": BRANCHING, "select": rule}]
    )
    plan.check()
    assert {runs_of(plan)[f"cheap-{variant}-seed0"].needs for variant in BRANCHING} == {"joint-plain-seed0"}
    selected = found.select(-0.1, parameters=0.9)
    assert layers_of(plan, "cheap-recon-seed0", out) == selected
    assert layers_of(plan, "cheap-last-seed0", out) == list(found.layers[-len(selected) :])


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"flops": 0.001}, r"no layer that conflicts fits into flops=0\.001; the cheapest, '.*', needs 0\.0"),
        ({"rate": 0.2}, r"rate=0\.2 of an imported map, .* give threshold"),
        ({"threshold": 1}, "threshold: 1 would branch all 41 shared layers; leave at least one shared: add a top"),
        ({"flops": 0.5, "top": 41}, "top=41 would branch all 41 shared layers"),
        ({"blocks": 50}, "blocks=50 of the 11 blocks"),
    ],
    ids=str,
)
def test_a_rule_that_no_layer_meets_is_refused_before_training(
    tiny: PlanFactory, rule: dict[str, Any], message: str
) -> None:
    entry = {"method": "joint", "variants": ["recon"], "select": rule}
    plan = tiny(fit=RESNET, map=PUBLISHED, methods=[entry], single=False)
    plan.check()
    with pytest.raises(ValueError, match=message):
        prepare(plan, None)


def test_a_budget_is_refused_before_the_search_that_finds_its_map(tiny: PlanFactory) -> None:
    plan = tiny(methods=[{"method": "joint", "variants": ["plain", "recon"], "select": {"parameters": 1e-6}}])
    plan.check()
    with pytest.raises(ValueError, match="parameters=1e-06; the cheapest, 'bn1', needs"):
        prepare(plan, None)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"top": 3, "select": {"flops": 0.5}}, "both top and select"),
        ({"select": {"flop": 0.5}}, "unknown key 'flop' in .*select; nearest: 'flops'"),
        ({"select": {"flops": float("nan")}}, "flops=nan is no budget"),
        ({"select": {}}, "a selection needs a rule"),
        ({"select": {"top": 3}, "variants": ["plain"]}, "has a select and no variant that branches"),
        ({"select": {"flops": 0.5}, "growth": 0.1}, "both growth and select"),
        ({"select": {"flops": 0.5}, "groups": 2}, r"groups and the budget flops: 0\.5"),
    ],
)
def test_entries_with_a_rule_that_cannot_hold_are_refused(
    tiny: PlanFactory, entry: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        tiny(methods=[{"method": "joint", "variants": ["plain", "recon"], **entry}]).check()


def test_a_file_with_both_top_and_select_is_refused(tiny: PlanFactory, tmp_path: Path) -> None:
    content = {**tiny().to_dict(), "top": 25, "select": {"flops": 0.5}}
    path = tmp_path / "plan.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(ValueError, match="both top and select"):
        Plan.load(path)
