"""The controls of + Recon in a plan: their layers or width, and how near they come to its price."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from some_jobs import configuration_of, fit, job, prepare, runs_of

from recon.conflict import ConflictMap
from recon.conflict.matched_controls import TOLERANCE
from recon.data import Glyphs
from recon.experiments import Plan, benchmark
from recon.experiments.controls import norms_of
from recon.experiments.cost import count_parameters, flops_of_sample, network_on_meta
from recon.experiments.entry import VARIANTS
from recon.files.reading import read_object
from recon.gradients.layers import shared_layers
from recon.models import ResNet18
from recon.training import BranchOptions, MultiTaskModule

PlanFactory = Callable[..., Plan]

MAP = "multi-fashion-mnist-resnet18"
UNTRACEABLE = {"backbone": {"class_path": "some_jobs.Untraceable"}}
ALL_VARIANTS = list(VARIANTS)


def layers_of(plan: Plan, run_id: str) -> list[str]:
    layers: list[str] = configuration_of(plan, runs_of(plan)[run_id], Path())["model"]["branch"]["layers"]
    return layers


def trained(plan: Plan, run_id: str) -> MultiTaskModule:
    """The network that a run really trains."""
    own = job(plan, runs_of(plan)[run_id], Path()).own_fit()
    branch = own.configuration["model"]["branch"]
    return network_on_meta(
        own.backbone(), own.data(), BranchOptions(layers=branch["layers"], groups=branch.get("groups"))
    )


def parameters(plan: Plan, run_id: str) -> int:
    network = trained(plan, run_id)
    return count_parameters(network.backbone, network.heads)


def operations(plan: Plan, run_id: str) -> int:
    return flops_of_sample(trained(plan, run_id), Glyphs())


def with_map(tiny: PlanFactory, variants: list[str], **entry: Any) -> Plan:
    plan = tiny(methods=[{"method": "joint", "variants": variants, "seeds": [0, 1], **entry}], map=MAP)
    plan.check()
    return plan


@pytest.mark.slow
def test_random_layers_add_about_the_parameters_of_recon(tiny: PlanFactory) -> None:
    plan = with_map(tiny, ["plain", "recon", "random_parameters"], top=12)
    plain, recon = parameters(plan, "joint-plain-seed0"), parameters(plan, "joint-recon-seed0")
    assert abs(parameters(plan, "joint-random_parameters-seed0") - recon) <= TOLERANCE * (recon - plain)
    drawn = [layers_of(plan, f"joint-random_parameters-seed{seed}") for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert set(drawn[0]) != set(layers_of(plan, "joint-recon-seed0"))


def test_random_layers_add_about_the_flops_of_recon(tiny: PlanFactory) -> None:
    plan = with_map(tiny, ["plain", "recon", "random_flops"])
    plain, recon = operations(plan, "joint-plain-seed0"), operations(plan, "joint-recon-seed0")
    assert abs(operations(plan, "joint-random_flops-seed0") - recon) <= TOLERANCE * (recon - plain)
    drawn = layers_of(plan, "joint-random_flops-seed0")
    assert set(drawn) != set(layers_of(plan, "joint-recon-seed0"))


@pytest.mark.slow
def test_the_price_of_recon_with_groups_counts_their_copies(tiny: PlanFactory, searched: Any) -> None:
    path = str(searched[1] / "runs" / "joint-plain-seed0" / "conflict_map.json")
    methods = [{"method": "joint", "variants": ["plain", "recon", "random_parameters"], "growth": 0.3}]
    plan = tiny(methods=methods, map=path)
    plan.check()
    plain, recon, own = (parameters(plan, f"joint-{one}-seed0") for one in ("plain", "recon", "random_parameters"))
    assert plain < recon
    assert abs(own - recon) <= TOLERANCE * (recon - plain)


@pytest.mark.parametrize(
    ("variant", "measure"),
    [
        ("wide_parameters", parameters),
        pytest.param("wide_flops", operations, marks=pytest.mark.slow),
    ],
)
def test_no_other_width_is_nearer_to_recon(
    tiny: PlanFactory, variant: str, measure: Callable[[Plan, str], int]
) -> None:
    plan = with_map(tiny, ["plain", "recon", variant], top=35)
    own = configuration_of(plan, runs_of(plan)[f"joint-{variant}-seed0"], Path())["model"]
    assert own["branch"]["layers"] == []
    width = own["backbone"]["init_args"]["width"]
    recon = measure(plan, "joint-recon-seed0")
    off = {}
    for each in (width - 1, width, width + 1):
        model = {"backbone": {"class_path": "recon.models.ResNet18", "init_args": {"width": each}}}
        off[each] = abs(measure(tiny(fit={**plan.fit, "model": model}), "joint-plain-seed0") - recon)
    assert width > 4
    assert min(off, key=off.__getitem__) == width


def test_least_are_the_layers_at_the_other_end_of_the_map_the_calmest_first(tiny: PlanFactory) -> None:
    plan = with_map(tiny, ["least"])
    ranking = ConflictMap.load(MAP).top(41, severity=-0.1)
    assert layers_of(plan, "joint-least-seed0") == ranking[:-5:-1]


def test_norms_are_all_norms_and_their_control_is_as_many_layers_drawn_from_all(tiny: PlanFactory) -> None:
    plan = tiny(methods=[{"method": "joint", "variants": ["norms", "norms_random"], "seeds": [0, 1, 2]}])
    plan.check()
    assert not any(run.needs for run in runs_of(plan).values())
    norms = layers_of(plan, "joint-norms-seed0")
    assert norms == norms_of(ResNet18(width=4), list(shared_layers(ResNet18(width=4))))
    drawn = [layers_of(plan, f"joint-norms_random-seed{seed}") for seed in range(3)]
    assert [len(layers) for layers in drawn] == [20] * 3
    assert all(0 < len(set(layers) & set(norms)) < 20 for layers in drawn)


def test_controls_that_need_a_map_wait_for_the_joint_run_of_their_seed(tiny: PlanFactory) -> None:
    plan = tiny(methods=[{"method": "joint", "variants": ALL_VARIANTS}])
    plan.check()
    waiting = {run.variant for run in runs_of(plan).values() if run.needs == "joint-plain-seed0"}
    free = {"plain", "first", "last", "norms", "norms_random"}
    assert waiting == set(ALL_VARIANTS) - free


@pytest.mark.parametrize(
    ("changes", "variant", "message"),
    [
        ({"fit": fit(), "top": 1}, "norms", "LeNet shares no norm layer, so there is no variant norms or norms_random"),
        ({"fit": fit(), "top": 1}, "norms_random", "LeNet shares no norm layer"),
        ({"fit": fit(), "top": 1}, "wide_flops", r"LeNet has no argument 'width', so there is no wider network"),
        ({"fit": fit(model=UNTRACEABLE), "top": 1}, "random_flops", "Untraceable .*cannot be traced"),
        ({"width": "widht"}, "wide_parameters", r"ResNet18 has no argument 'widht', so there is no wider network"),
        ({"top": 41}, "least", "top=41 would branch all 41 shared layers"),
    ],
)
def test_controls_that_do_not_exist_are_refused_before_any_training(
    tiny: PlanFactory, changes: dict[str, Any], variant: str, message: str
) -> None:
    plan = tiny(methods=[{"method": "joint", "variants": ["plain", variant]}], **changes)
    plan.check()
    with pytest.raises(ValueError, match=message):
        prepare(plan, None)


def test_an_entry_names_the_argument_that_sets_the_width_of_its_own_backbone(tiny: PlanFactory) -> None:
    methods = [{"method": "joint", "variants": ["plain", "recon", "wide_parameters"], "width": "features"}]
    plan = tiny(fit=fit(), methods=methods, top=1)
    plan.check()
    prepare(plan, None)


@pytest.mark.slow
def test_one_plan_runs_all_controls_and_tells_how_near_they_come(tiny: PlanFactory, tmp_path: Path) -> None:
    trainer = {"max_epochs": 1, "accelerator": "cpu"}
    section = {**tiny().fit, "trainer": trainer}
    plan = tiny(fit=section, methods=[{"method": "joint", "variants": ALL_VARIANTS}], top=12, single=False)
    report = benchmark(plan, tmp_path, jobs=1)
    results = read_object(tmp_path / "results.json")
    runs = {run["variant"]: run for run in results["runs"]}
    assert list(runs) == ALL_VARIANTS
    assert len({run["parameters_base"] for run in runs.values()}) == 1
    recon, plain = runs["recon"], runs["plain"]
    for variant, measure in (("random_parameters", "parameters"), ("random_flops", "flops")):
        assert abs(runs[variant][measure] - recon[measure]) <= TOLERANCE * (recon[measure] - plain[measure])
    assert runs["wide_parameters"]["parameters"] > plain["parameters"]
    assert "joint wider, equal FLOPs" in report.table
