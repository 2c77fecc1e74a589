"""Selections within budgets against all subsets of layers."""

from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st

from recon.branching.prices import Prices
from recon.conflict.budget import Limits, best_within

_NAMES = "abcdefg"


def _best_of_all(scores: dict[str, int], prices: Prices, limits: Limits) -> list[str]:
    """The best subset, found by trying every one: highest score, cheapest, earliest."""
    ranked = []
    for choice in product((True, False), repeat=len(scores)):
        layers = [layer for layer, on in zip(scores, choice, strict=True) if on]
        costs = len(layers), prices.parameters_of(layers), prices.flops_of(layers)
        bounds = limits.layers, limits.parameters, limits.flops
        if all(scores[layer] for layer in layers) and all(
            bound is None or cost <= bound for cost, bound in zip(costs, bounds, strict=True)
        ):
            ranked.append(((sum(map(scores.__getitem__, layers)), -costs[2], -costs[1], choice), layers))
    return max(ranked)[1]


@st.composite
def _graphs(draw: st.DrawFn) -> tuple[dict[str, int], dict[frozenset[str], int], list[int]]:
    """Scores, operations and sizes of the layers of a random acyclic graph, or of a chain."""
    names = _NAMES[: draw(st.integers(1, len(_NAMES)))]
    is_chain = draw(st.booleans())
    before: dict[str, set[str]] = {}
    for place, name in enumerate(names):
        earlier = names[max(place - 1, 0) : place] if is_chain else draw(st.sets(st.sampled_from(names[:place] or "a")))
        before[name] = {name}.union(*(before[other] for other in earlier if other in before))
    large = draw(st.sampled_from([3, 1000, 10**11]))
    counts = st.integers(0, large)
    flops: dict[frozenset[str], int] = {}
    for own in before.values():
        flops[frozenset(own)] = flops.get(frozenset(own), 0) + draw(counts)
    scores = {name: draw(st.integers(0, draw(st.sampled_from([2, 10**5])))) for name in names}
    return scores, flops, [draw(st.integers(0, draw(st.sampled_from([2, 10**7])))) for _ in names]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(_graphs(), st.data())
def test_the_choice_is_the_best_of_all_subsets(
    graph: tuple[dict[str, int], dict[frozenset[str], int], list[int]], data: st.DataObject
) -> None:
    scores, flops, sizes = graph
    prices = Prices(dict(zip(scores, sizes, strict=True)), 1, flops, 1)
    totals = (len(scores), sum(sizes), sum(flops.values()))
    bounds = (data.draw(st.none() | st.integers(low, total)) for low, total in zip((1, 0, 0), totals, strict=True))
    limits = Limits(*bounds)
    assert best_within(scores, prices, limits) == _best_of_all(scores, prices, limits)


def test_the_trunk_ends_where_the_budget_allows_and_all_behind_is_free() -> None:
    layers = [f"layer{depth}" for depth in range(60)]
    flops = {frozenset(layers[: depth + 1]): 10**9 for depth in range(60)}
    prices = Prices(dict.fromkeys(layers, 1), 60, flops, 60 * 10**9)
    scores = {layer: 100 - depth for depth, layer in enumerate(layers)}
    assert best_within(scores, prices, Limits(flops=15 * 10**9)) == layers[45:]
    assert best_within(scores, prices, Limits(flops=15 * 10**9 - 1)) == layers[46:]
    assert best_within(scores, prices, Limits(layers=2, flops=15 * 10**9)) == layers[45:47]


def test_of_equal_scores_the_cheaper_and_then_the_earlier_layers_are_chosen() -> None:
    layers = [f"layer{number}" for number in range(45)]
    scores = dict.fromkeys(layers, 1)
    equal = Prices(dict.fromkeys(layers, 5), 45 * 5, {}, 0)
    assert best_within(scores, equal, Limits(layers=3)) == layers[:3]
    cheaper = Prices({**dict.fromkeys(layers, 5), "layer40": 4}, 45 * 5, {frozenset(["layer40"]): 0}, 0)
    assert best_within(scores, cheaper, Limits(layers=1)) == ["layer40"]
    faster = Prices(cheaper.parameters, 45 * 5, {frozenset(layers) - {"layer41"}: 7}, 7)
    assert best_within(scores, faster, Limits(layers=1)) == ["layer41"]
