from typing import Any

from some_plans import CONTENT, SMALL

from recon.experiments import Plan


def test_every_task_has_a_single_run_a_seed_and_every_method_its_variants_and_seeds() -> None:
    plan = Plan.from_dict(CONTENT)
    plan.check()
    assert [run.id for run in plan.runs(["digit", "letter"])] == [
        "single-digit-seed0",
        "single-letter-seed0",
        "single-digit-seed1",
        "single-letter-seed1",
        "joint-plain-seed0",
        "joint-plain-seed1",
        "joint-recon-seed0",
        "joint-recon-seed1",
        "cagrad-plain-seed0",
        "cagrad-recon-seed0",
    ]


def test_recon_runs_need_the_joint_run_of_their_seed_unless_a_map_is_named() -> None:
    needs = {run.id: run.needs for run in Plan.from_dict(CONTENT).runs(["digit"]) if run.needs}
    assert needs == {
        "joint-recon-seed0": "joint-plain-seed0",
        "joint-recon-seed1": "joint-plain-seed1",
        "cagrad-recon-seed0": "joint-plain-seed0",
    }
    named = Plan.from_dict({**CONTENT, "map": "map.json"})
    assert not any(run.needs for run in named.runs(["digit"]))


def test_random_layers_wait_for_a_map_only_where_recon_uses_one() -> None:
    def needs(*variants: str, **more: Any) -> list[str | None]:
        content = {**CONTENT, "methods": [{"method": "joint", "variants": variants}], **more}
        return [run.needs for run in Plan.from_dict(content).runs([]) if run.variant == "random"]

    assert needs("plain", "recon", "random") == ["joint-plain-seed0"]
    assert needs("plain", "random") == [None]
    assert needs("recon", "random", map="map.json") == [None]


def test_single_runs_can_be_left_out() -> None:
    assert all(run.task is None for run in Plan.from_dict({**CONTENT, "single": False}).runs(["digit"]))


def test_recon_runs_of_another_network_need_the_map_of_joint_training_with_that_network() -> None:
    small = [{"method": "Joint", "name": "small", "model": SMALL, "variants": ["plain", "random"]}]
    small += [{"method": "cagrad", "name": "small-cagrad", "model": SMALL, "variants": ["recon"]}]
    plan = Plan.from_dict({**CONTENT, "methods": [*CONTENT["methods"], *small], "single": False})
    plan.check()
    needs = {run.id: run.needs for run in plan.runs([]) if run.needs and "small" in run.id}
    assert needs == {"small-random-seed0": "small-plain-seed0", "small-cagrad-recon-seed0": "small-plain-seed0"}
    assert {run.needs for run in plan.runs([]) if run.id == "cagrad-recon-seed0"} == {"joint-plain-seed0"}


def test_joint_training_of_the_plans_network_finds_maps_under_any_name() -> None:
    methods = [{"method": "joint", "name": "hard_sharing"}, {"method": "cagrad", "variants": ["recon"]}]
    plan = Plan.from_dict({**CONTENT, "methods": methods, "single": False})
    plan.check()
    assert {run.needs for run in plan.runs([]) if run.variant == "recon"} == {"hard_sharing-plain-seed0"}
