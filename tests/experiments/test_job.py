"""The layers and the configuration of a run."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from some_jobs import configuration_of, fit, prepare, run_directory, runs_of

from recon.conflict import ConflictMap
from recon.experiments import Plan

PlanFactory = Callable[..., Plan]
Searched = tuple[Plan, Path, dict[str, Any]]


def test_recon_branches_the_top_of_its_seeds_map_and_controls_branch_as_many(searched: Searched) -> None:
    plan, out, _ = searched
    found = ConflictMap.load(run_directory(out, "joint-plain-seed0") / "conflict_map.json")
    branched = {}
    for variant in ("recon", "random", "first", "last"):
        configuration = configuration_of(plan, runs_of(plan)[f"joint-{variant}-seed0"], out)
        branched[variant] = configuration["model"]["branch"]["layers"]
        assert len(branched[variant]) == 4
    assert branched["recon"] == found.top(4, -0.1)
    assert branched["first"] == list(found.layers[:4])
    assert branched["last"] == list(found.layers[-4:])
    graddrop = configuration_of(plan, runs_of(plan)["graddrop-recon-seed0"], out)
    assert graddrop["model"]["branch"]["layers"] == branched["recon"]
    assert graddrop["model"]["method"] == "graddrop"


def test_a_map_file_takes_the_place_of_the_plans_own_search(
    tiny: PlanFactory, searched: Searched, tmp_path: Path
) -> None:
    path = run_directory(searched[1], "joint-plain-seed0") / "conflict_map.json"
    plan = tiny(methods=[{"method": "cagrad", "variants": ["recon"]}], map=str(path))
    plan.check()
    configuration = configuration_of(plan, runs_of(plan)["cagrad-recon-seed0"], tmp_path)
    assert configuration["model"]["branch"]["layers"] == ConflictMap.load(path).top(4, -0.1)


def test_an_entry_may_branch_another_number_of_layers_than_the_plan(tiny: PlanFactory, searched: Searched) -> None:
    path = run_directory(searched[1], "joint-plain-seed0") / "conflict_map.json"
    plan = tiny(
        methods=[
            {"method": "joint"},
            {"method": "joint", "name": "two", "top": 2, "variants": ["recon", "random", "first", "last"]},
        ],
        map=str(path),
    )
    plan.check()
    found, branched = ConflictMap.load(path), {}
    for run in ("joint-recon-seed0", "two-recon-seed0", "two-random-seed0", "two-first-seed0", "two-last-seed0"):
        branched[run] = configuration_of(plan, runs_of(plan)[run], searched[1])["model"]["branch"]["layers"]
    assert [len(layers) for layers in branched.values()] == [4, 2, 2, 2, 2]
    assert branched["two-recon-seed0"] == found.top(2, -0.1)


def test_an_entry_with_groups_shares_copies_as_the_map_says(
    tiny: PlanFactory, searched: Searched, tmp_path: Path
) -> None:
    path = run_directory(searched[1], "joint-plain-seed0") / "conflict_map.json"
    found = ConflictMap.load(path)
    for groups, number in ((2, 2), ("friends", None)):
        plan = tiny(methods=[{"method": "cagrad", "variants": ["recon"], "groups": groups}], map=str(path))
        plan.check()
        branch = configuration_of(plan, runs_of(plan)["cagrad-recon-seed0"], tmp_path)["model"]["branch"]
        assert branch["groups"] == {layer: found.groups(layer, -0.1, number) for layer in branch["layers"]}


def test_an_entry_may_spend_a_growth_of_parameters_on_groups(
    tiny: PlanFactory, searched: Searched, tmp_path: Path
) -> None:
    path = run_directory(searched[1], "joint-plain-seed0") / "conflict_map.json"
    found = ConflictMap.load(path)
    plan = tiny(methods=[{"method": "cagrad", "variants": ["plain", "recon"], "growth": 0.2}], map=str(path))
    plan.check()
    branch = configuration_of(plan, runs_of(plan)["cagrad-recon-seed0"], tmp_path)["model"]["branch"]
    assert branch["groups"] == found.groups_within(0.2, -0.1) != {}
    assert branch["layers"] == list(branch["groups"])
    plain = configuration_of(plan, runs_of(plan)["cagrad-plain-seed0"], tmp_path)["model"]["branch"]
    assert plain["layers"] == []
    little = tiny(methods=[{"method": "cagrad", "variants": ["recon"], "growth": 1e-9}], map=str(path))
    with pytest.raises(ValueError, match=r"cagrad: growth: 1e-09 parts no tasks at the severity -0\.1; give more"):
        configuration_of(little, runs_of(little)["cagrad-recon-seed0"], tmp_path)


@pytest.mark.parametrize("entry", [{"groups": 2}, {"growth": 0.1}])
def test_groups_of_a_map_without_cosines_are_refused_before_any_run(tiny: PlanFactory, entry: dict[str, Any]) -> None:
    plan = tiny(
        methods=[{"method": "joint", "variants": ["recon"], **entry}], map="multi-fashion-mnist-resnet18", single=False
    )
    with pytest.raises(ValueError, match="cosine"):
        prepare(plan, None)


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        ({"variants": ["plain"], "growth": 0.1}, "has growth and the variants plain; give recon"),
        ({"variants": ["recon", "random"], "growth": 0.1}, "variants recon, random; give recon, beside plain"),
        ({"variants": ["recon"], "growth": 0}, "has growth: 0; give a positive share"),
        ({"variants": ["recon"], "growth": 0.1, "top": 2}, "has both growth and top"),
        ({"variants": ["recon"], "growth": 0.1, "groups": 2}, "has both growth and groups"),
        ({"variants": ["plain"], "groups": 2}, "has groups and no variant 'recon'"),
        ({"variants": ["recon"], "groups": 1}, "has groups: 1; give 2 or more, or 'friends'"),
        ({"variants": ["recon"], "top": 0}, "has top: 0; give 1 or more"),
        ({"variants": ["plain"], "top": 2}, "has a top and no variant that branches"),
    ],
)
def test_numbers_without_use_are_refused(tiny: PlanFactory, entry: dict[str, Any], text: str) -> None:
    plan = tiny(methods=[{"method": "cagrad", **entry}], map="map.json")
    with pytest.raises(ValueError, match=text):
        plan.check()


def test_a_plan_takes_a_published_ranking_by_its_name(tiny: PlanFactory, tmp_path: Path) -> None:
    name = "multi-fashion-mnist-resnet18"
    plan = tiny(methods=[{"method": "cagrad", "variants": ["recon"]}], map=name)
    plan.check()
    prepare(plan, None)
    configuration = configuration_of(plan, runs_of(plan)["cagrad-recon-seed0"], tmp_path)
    assert configuration["model"]["branch"]["layers"] == ConflictMap.load(name).top(4, -0.1)


def test_one_plan_compares_its_own_map_with_one_found_elsewhere(
    tiny: PlanFactory, searched: Searched, tmp_path: Path
) -> None:
    path = run_directory(searched[1], "joint-plain-seed0") / "conflict_map.json"
    elsewhere = {"method": "joint", "name": "joint-elsewhere", "variants": ["recon"], "map": str(path)}
    plan = tiny(methods=[{"method": "joint", "variants": ["plain", "recon"]}, elsewhere])
    plan.check()
    assert plan.maps == [str(path)]
    needs = {run.id: run.needs for run in runs_of(plan).values()}
    assert needs["joint-recon-seed0"] == "joint-plain-seed0"
    assert needs["joint-elsewhere-recon-seed0"] is None
    configuration = configuration_of(plan, runs_of(plan)["joint-elsewhere-recon-seed0"], tmp_path)
    assert configuration["model"]["branch"]["layers"] == ConflictMap.load(path).top(4, -0.1)
    with pytest.raises(FileNotFoundError, match=r"nowhere\.json"):
        prepare(tiny(methods=[{**elsewhere, "map": "nowhere.json"}]), None)


def test_random_layers_are_never_just_the_ones_that_the_map_selects(tiny: PlanFactory, tmp_path: Path) -> None:
    """A network of three layers, one of which is branched: a third of the draws would be the same run twice."""
    (tmp_path / "map.json").write_text(json.dumps({"conv1": 1, "conv2": 3, "fc": 2}))
    plan = tiny(
        fit=fit(),
        top=1,
        map=str(tmp_path / "map.json"),
        methods=[{"method": "joint", "variants": ["recon", "random"], "seeds": list(range(12))}],
    )
    drawn = [
        configuration_of(plan, run, tmp_path)["model"]["branch"]["layers"]
        for run in plan.runs([])
        if run.variant == "random"
    ]
    assert len(drawn) == 12
    assert {layer for layers in drawn for layer in layers} == {"conv1", "fc"}
