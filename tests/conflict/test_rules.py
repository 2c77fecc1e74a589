from typing import Any

import pytest

from recon.branching.prices import Prices
from recon.conflict import Rule
from recon.conflict.rules import select_layers

SCORES = {"conv1": 4, "bn1": 9, "block.conv": 6, "block.bn": 8, "fc": 0}
PRICES = Prices(
    {"conv1": 20, "bn1": 2, "block.conv": 40, "block.bn": 3, "fc": 35},
    100,
    {frozenset({"conv1"}): 50, frozenset({"conv1", "bn1"}): 30, frozenset({"conv1", "bn1", "block.conv"}): 20},
    100,
)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (Rule(top=2), ["bn1", "block.bn"]),
        (Rule(threshold=6), ["bn1", "block.bn", "block.conv"]),
        (Rule(threshold=6, top=1), ["bn1"]),
        (Rule(rate=0.8), ["bn1", "block.bn"]),
        (Rule(parameters=0.05), ["bn1", "block.bn"]),
        (Rule(parameters=0.25), ["bn1", "block.bn", "conv1"]),
        (Rule(flops=0.2), ["block.bn", "block.conv"]),
        (Rule(flops=0.2, parameters=0.1), ["block.bn"]),
        (Rule(flops=0.5, top=2), ["bn1", "block.bn"]),
        (Rule(flops=1.0), ["bn1", "block.bn", "block.conv", "conv1"]),
        (Rule(blocks=1), ["bn1"]),
        (Rule(blocks=2), ["bn1", "block.bn", "block.conv"]),
    ],
    ids=str,
)
def test_a_rule_selects_the_worst_layers_that_meet_it(rule: Rule, expected: list[str]) -> None:
    rates = {layer: score / 10 for layer, score in SCORES.items()}
    assert select_layers(SCORES, rule, PRICES, rates) == expected


def test_a_growth_that_is_met_exactly_is_met_whatever_its_decimals() -> None:
    prices = Prices({"a": 29, "b": 30}, 100, {}, 0)
    assert select_layers({"a": 1, "b": 1}, Rule(parameters=0.29), prices) == ["a"]


def test_a_budget_leaves_one_layer_shared() -> None:
    prices = Prices({"a": 1, "b": 1}, 2, {}, 0)
    assert select_layers({"a": 1, "b": 2}, Rule(parameters=5.0), prices) == ["b"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "needs a rule; give one of top, threshold, rate, parameters, flops, blocks"),
        ({"flops": 0.0}, r"flops=0\.0 is no budget; give a growth above 0"),
        ({"flops": -0.5}, "flops=-0.5 is no budget"),
        ({"parameters": float("nan")}, "parameters=nan is no budget"),
        ({"parameters": float("inf")}, "parameters=inf is no budget"),
        ({"flops": "0.5"}, "flops='0.5' is no budget"),
        ({"rate": 20.0}, r"rate=20\.0 is no rate"),
        ({"top": 0}, "top=0 selects nothing"),
        ({"threshold": 0.2}, r"threshold=0\.2 selects nothing that can be counted"),
        ({"blocks": True}, "blocks=True selects nothing"),
        ({"blocks": 2, "top": 3}, "blocks selects whole blocks, whatever top says"),
        ({"rate": 0.2, "threshold": 3}, "threshold and rate both say"),
    ],
)
def test_rules_that_cannot_be_met_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Rule(**given)


@pytest.mark.parametrize(
    ("rule", "nearest", "message"),
    [
        (Rule(parameters=0.01), Rule(parameters=0.02), "parameters=0.01; the cheapest, 'bn1', needs 0.020"),
        (
            Rule(threshold=6, flops=0.2, parameters=0.001),
            Rule(parameters=0.03, flops=0.2),
            "parameters=0.001; the cheapest, 'block.bn', needs 0.030",  # bn1, with 0.020, has too many FLOPs
        ),
        (Rule(threshold=10), Rule(threshold=9), "no layer meets threshold=10: the highest, of 'bn1', is 9; give that"),
        (Rule(blocks=4), Rule(blocks=3), "blocks=4 of the 4 blocks conv1, bn1, block, fc leaves none shared"),
        (Rule(top=6), Rule(top=5), "top=6 of 5 layers; give a number from 1 to 5"),
    ],
    ids=str,
)
def test_a_rule_that_no_layer_meets_names_the_nearest_that_one_meets(rule: Rule, nearest: Rule, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        select_layers(SCORES, rule, PRICES)
    assert select_layers(SCORES, nearest, PRICES)


def test_scores_and_rates_that_are_too_high_are_answered_by_ones_that_a_layer_meets() -> None:
    scores, rates = {"a": 123_456, "b": 3}, {"a": 0.123456, "b": 0.1}
    with pytest.raises(ValueError, match="the highest, of 'a', is 123456; give that or less"):
        select_layers(scores, Rule(threshold=200_000))
    with pytest.raises(ValueError, match=r"the highest, of 'a', is 0\.1234; give that or less"):
        select_layers(scores, Rule(rate=0.5), rates=rates)
    assert select_layers(scores, Rule(rate=0.1234), rates=rates) == ["a"]


def test_of_two_budgets_the_error_names_the_one_that_the_other_leaves_too_small() -> None:
    prices = Prices({"a": 1, "b": 50}, 100, {frozenset("a"): 60, frozenset("ab"): 3}, 100)
    with pytest.raises(ValueError, match=r"flops=0\.1; the cheapest, 'a', needs 0\.63"):
        select_layers({"a": 1, "b": 1}, Rule(parameters=0.1, flops=0.1), prices)


def test_of_two_budgets_that_are_too_small_the_error_names_what_both_need() -> None:
    prices = Prices({"a": 9, "b": 50}, 100, {frozenset("a"): 60, frozenset("ab"): 13}, 100)
    with pytest.raises(ValueError, match=r"'b', needs parameters: 0\.500, flops: 0\.130"):
        select_layers({"a": 1, "b": 1}, Rule(parameters=0.01, flops=0.1), prices)
    assert select_layers({"a": 1, "b": 1}, Rule(parameters=0.5, flops=0.13), prices) == ["b"]


@pytest.mark.parametrize("rule", [Rule(flops=0.5), Rule(threshold=1)], ids=str)
def test_a_map_without_conflict_has_nothing_to_select(rule: Rule) -> None:
    with pytest.raises(ValueError, match="no layer conflicts"):
        select_layers(dict.fromkeys(SCORES, 0), rule, PRICES)
