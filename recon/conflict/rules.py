"""Rules by which a conflict map selects the layers to branch, some of which know the price."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from fractions import Fraction
from math import floor, inf

from recon.branching.prices import Prices
from recon.conflict.blocks import top_blocks
from recon.conflict.budget import Limits, best_within
from recon.conflict.ranking import check_number_of_layers, top_layers

_COUNTS = ("top", "threshold", "blocks")


@dataclass(frozen=True)
class Rule:
    """A rule that selects layers: the best ones that meet all conditions.

    ``top``, ``threshold`` (or ``rate``), ``parameters`` and ``flops`` may stand together: the
    selection then has the highest total score of all that meet them. ``blocks`` stands alone.

    Attributes:
        top: Number of layers, at most.
        threshold: Only layers with this score or more.
        rate: Only layers with this rate or more; needs a measured map.
        parameters: Growth of the parameters that tasks share, at most; 0.05 is +5 %.
        flops: Growth of the operations of a forward for all tasks, at most; 0.25 is +25 %.
        blocks: Number of whole blocks, such as ``layer4.1``, those of highest mean score.

    Raises:
        ValueError: There is no condition, a value is not possible, or two exclude each other.

    Example:
        >>> print(Rule(top=25, flops=0.25))
        top: 25, flops: 0.25
    """

    top: int | None = None
    threshold: int | None = None
    rate: float | None = None
    parameters: float | None = None
    flops: float | None = None
    blocks: int | None = None

    def __post_init__(self) -> None:
        if not self.given:
            raise ValueError(f"a selection needs a rule; give one of {', '.join(field.name for field in fields(self))}")
        for name, value in self.given.items():
            if name in _COUNTS and (type(value) is not int or value < 1):
                raise ValueError(f"{name}={value!r} selects nothing that can be counted; give a whole number from 1")
        if self.rate is not None and not (_is_number(self.rate) and 0 < self.rate <= 1):
            raise ValueError(f"rate={self.rate!r} is no rate; give a share of observed pairs above 0, up to 1")
        for name in ("parameters", "flops"):
            budget = self.given.get(name)
            if budget is not None and not (_is_number(budget) and 0 < budget < inf):
                raise ValueError(f"{name}={budget!r} is no budget; give a growth above 0: 0.25 is +25 %")
        if self.blocks is not None and len(self.given) > 1:
            others = ", ".join(name for name in self.given if name != "blocks")
            raise ValueError(f"blocks selects whole blocks, whatever {others} says; give one of them")
        if self.threshold is not None and self.rate is not None:
            raise ValueError("threshold and rate both say from where on a layer conflicts; give one")

    @property
    def given(self) -> dict[str, float]:
        """The conditions that are given, by name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    @property
    def is_top(self) -> bool:
        """Whether the rule is a number of layers and nothing else, so that no scores are needed."""
        return list(self.given) == ["top"]

    @property
    def needs_prices(self) -> bool:
        """Whether the rule has a budget, so that it needs the prices of layers."""
        return self.parameters is not None or self.flops is not None

    def __str__(self) -> str:
        return ", ".join(f"{name}: {value}" for name, value in self.given.items())


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def select_layers(
    scores: Mapping[str, int], rule: Rule, prices: Prices | None = None, rates: Mapping[str, float] | None = None
) -> list[str]:
    """Return the layers that a rule selects, highest score first.

    Layers of equal score keep the order of ``scores``. Of selections with equal total score within
    a budget the one with the fewest operations, then the fewest parameters, then the earliest
    layers is taken. A budget leaves at least one layer shared.

    Args:
        scores: Layer -> score, in forward order, of all layers that may be branched.
        rule: The rule.
        prices: The prices of these layers, for a rule with a budget.
        rates: Layer -> rate, for a rule with a rate.

    Raises:
        ValueError: No layer meets the rule; the error gives the nearest value that one meets.

    Example:
        >>> prices = Prices({"conv1": 10, "bn1": 2, "fc": 50}, 62, {}, 0)
        >>> select_layers({"conv1": 7, "bn1": 9, "fc": 8}, Rule(parameters=0.2), prices)
        ['bn1', 'conv1']
    """
    if rule.blocks is not None:
        return top_blocks(scores, rule.blocks)
    if rule.top is not None:
        check_number_of_layers(rule.top, list(scores))
    meeting = _meeting(scores, rule, rates)
    if not rule.needs_prices:
        return top_layers(meeting, len(meeting) if rule.top is None else min(rule.top, len(meeting)))
    assert prices is not None  # a rule with a budget has them
    limits = Limits(
        min(len(scores) - 1, rule.top or len(scores)),
        None if rule.parameters is None else _most(rule.parameters, prices.plain_parameters),
        None if rule.flops is None else _most(rule.flops, prices.plain_flops),
    )
    if len(scores) < 2:
        raise ValueError(f"the one layer {next(iter(scores))!r} would leave none shared; there is nothing to select")
    chosen = best_within(meeting, prices, limits)
    if not chosen:
        raise _nothing_meets(rule, {layer: score for layer, score in meeting.items() if score > 0}, prices, limits)
    return top_layers({layer: scores[layer] for layer in scores if layer in set(chosen)}, len(chosen))


def _meeting(scores: Mapping[str, int], rule: Rule, rates: Mapping[str, float] | None) -> dict[str, int]:
    """The layers that meet the threshold or the rate of a rule; all without one."""
    name, values, least = "threshold", scores, rule.threshold
    if rule.rate is not None:
        assert rates is not None  # a rule with a rate has them
        name, values, least = "rate", rates, rule.rate  # type: ignore[assignment]
    if least is None:
        return dict(scores)
    meeting = {layer: score for layer, score in scores.items() if values[layer] >= least}
    if not meeting and not any(scores.values()):
        raise _nothing_conflicts(rule)
    if not meeting:
        worst = max(values, key=values.__getitem__)
        most = values[worst] if rule.rate is None else _rounded_down(values[worst])
        raise ValueError(f"no layer meets {name}={least}: the highest, of {worst!r}, is {most}; give that or less")
    return meeting


def _most(growth: float, plain: int) -> int:
    """The whole number that a growth allows; decimals count as they are written."""
    return floor(Fraction(str(growth)) * plain)


def _nothing_conflicts(rule: Rule) -> ValueError:
    return ValueError(f"no layer conflicts, so {rule} selects none; give a severity nearer to 0")


def _nothing_meets(rule: Rule, layers: Mapping[str, int], prices: Prices, limits: Limits) -> ValueError:
    """The error for budgets into which no layer fits, with the nearest ones into which one does."""
    if not layers:
        return _nothing_conflicts(rule)
    operations = {layer: prices.flops_of([layer]) for layer in layers}
    parameters = {layer: prices.parameters[layer] for layer in layers}
    fitting = {  # into the other budget
        "flops": [layer for layer in layers if limits.parameters is None or parameters[layer] <= limits.parameters],
        "parameters": [layer for layer in layers if limits.flops is None or operations[layer] <= limits.flops],
    }
    needs = {
        "flops": lambda layer: _rounded_up(operations[layer], prices.plain_flops),
        "parameters": lambda layer: _rounded_up(parameters[layer], prices.plain_parameters),
    }
    for name, costs in (("flops", operations), ("parameters", parameters)):
        if name in rule.given and fitting[name]:
            cheapest = min(fitting[name], key=costs.__getitem__)
            return ValueError(
                f"no layer that conflicts fits into {name}={rule.given[name]}; the cheapest, {cheapest!r}, needs "
                f"{needs[name](cheapest)}"
            )
    cheapest = min(layers, key=lambda layer: (operations[layer], parameters[layer]))
    return ValueError(
        f"no layer that conflicts fits into {rule}; the one of fewest operations, {cheapest!r}, needs parameters: "
        f"{needs['parameters'](cheapest)}, flops: {needs['flops'](cheapest)}"
    )


def _rounded_down(rate: float) -> float:
    """A rate with four decimals, so that the layer meets it."""
    return floor(rate * 10**4) / 10**4 or rate


def _rounded_up(added: int, plain: int) -> str:
    """The growth of an addition, with three digits, so that the addition fits into it."""
    growth, digits = Fraction(added, max(plain, 1)), 2
    while growth * 10**digits < 100:
        digits += 1
    return f"{-floor(-growth * 10**digits) / 10**digits:.{digits}f}"
