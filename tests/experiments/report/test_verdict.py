from some_runs import run

from recon.experiments.report.differences import differences
from recon.experiments.report.summary import summarise
from recon.experiments.report.verdict import verdict


def said(**deltas: tuple[float, ...]) -> str:
    costs = {"recon": {"parameters": 102, "flops": 1970}, "random_parameters": {"parameters": 158, "flops": 1900}}
    own = {variant: {"parameters": 100, **costs.get(variant, {})} for variant in deltas}
    runs = [run(v, seed, delta_m=value, **own[v]) for v, values in deltas.items() for seed, value in enumerate(values)]
    return verdict(summarise(runs), differences(runs, "joint"))


def test_gain_price_and_certainty_stand_in_sentences() -> None:
    text = said(plain=(-3.0, -2.0, -4.0), recon=(0.0, 0.9, -0.9), random_parameters=(-0.5, 1.2, -1.0))
    assert text.splitlines() == [
        "joint + Recon gains 3.0 of the 3.0 points that joint loses to single-task networks, for +2% parameters and "
        "+97% FLOPs: better (+2.8 to +3.2, better in 3 of 3 seeds).",
        "joint + random layers, equal parameters gains 2.9, for +58% parameters and +90% FLOPs; + Recon over it +0.1: "
        "not distinguishable (-0.9 to +1.1, better in 2 of 3 seeds).",
    ]


def test_a_network_that_loses_nothing_and_one_seed_are_told_as_such() -> None:
    assert said(plain=(1.0,), recon=(0.5,)) == (
        "joint + Recon loses 0.5 points, for +2% parameters and +97% FLOPs: one seed, so nothing is distinguishable."
    )


def test_a_gain_beyond_the_loss_and_no_difference_are_told_as_such() -> None:
    gained, beside = said(plain=(-1.0,), recon=(0.5,), random_parameters=(0.52,)).splitlines()
    assert gained.startswith("joint + Recon gains 1.5 points, more than the 1.0 points that joint loses to single-task")
    assert "+ Recon over it +0.0:" in beside


def test_without_both_rows_nothing_is_said() -> None:
    assert said(plain=(1.0, 2.0)) == said(recon=(1.0, 2.0)) == ""
