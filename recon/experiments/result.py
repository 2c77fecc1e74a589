"""The result of a run: its keys and their possible values; ``results.json`` adds delta-m."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from recon.experiments.runs import Run
from recon.files.checksum import KEY, check_seal
from recon.files.reading import require
from recon.gradients.layers import number_of_layers
from recon.tasks.task import Task

RESULT = (
    "id",
    "method",
    "variant",
    "seed",
    "metrics",
    "parameters",
    "parameters_base",
    "flops",
    "conflict_by_layer",
    "conflict_rate",
    "seconds",
    "origin",
)
"""The keys of a result; in its file a checksum follows them. Earlier versions wrote no origin.

A setting of a grid that diverged has no metrics, and the reason as ``diverged``. A search for a
conflict map has none either.
"""

_LARGEST = 2**53
"""Counts are below it: above, JSON readers that know only float64 round them."""


def checked_result(record: Mapping[str, Any], run: Run, tasks: Sequence[Task]) -> dict[str, Any]:
    """The result that a record holds, without its checksum.

    A record of an earlier version has no checksum. It is taken if all its values are possible.

    Args:
        record: A result as its file holds it.
        run: The run it should be the result of.
        tasks: The tasks of the plan, whose metrics know their ranges.

    Raises:
        ValueError: It was damaged or edited, or is the result of another run.
    """
    intact = check_seal(record)
    result = {key: value for key, value in record.items() if key != KEY}
    _check(result, run, tasks)
    if not intact:
        _check_bounds(result["metrics"], tasks)
    return result


def _check(result: dict[str, Any], run: Run, tasks: Sequence[Task]) -> None:
    diverged = run.variant == "grid" and "diverged" in result
    if (result.keys() | {"origin"}) - ({"diverged"} if diverged else set()) != set(RESULT):
        raise ValueError(f"its keys are {', '.join(result)}")
    for key, value in {"id": run.id, "method": run.label, "variant": run.variant, "seed": run.seed}.items():
        if type(result[key]) is not type(value) or result[key] != value:
            raise ValueError(f"its {key} is {result[key]!r}, not {value!r}")
    has_metrics = not diverged and run.variant != "search"
    _check_metrics(result, [task for task in tasks if has_metrics and run.task in (None, task.name)])
    _check_sizes(result)
    _check_conflict(result)
    _number(result["seconds"], "seconds", 0, math.inf)
    if type(result.get("origin", {})) is not dict:
        raise ValueError(f"its origin is {result['origin']!r}, not an object")


def _check_metrics(result: dict[str, Any], tasks: Sequence[Task]) -> None:
    metrics = require(result, "metrics", (dict,), "it")
    if list(metrics) != [task.name for task in tasks]:
        raise ValueError(f"its metrics are of {', '.join(metrics)}, not of {', '.join(task.name for task in tasks)}")
    for task in tasks:
        known = task.metrics()
        values = require(metrics, task.name, (dict,), "its metrics")
        if set(values) != set(known):
            raise ValueError(f"its metrics of {task.name} are {', '.join(values)}, not {', '.join(known)}")
        for name, value in values.items():
            _number(value, f"{task.name}/{name}", -math.inf, math.inf)


def _check_bounds(metrics: dict[str, Any], tasks: Sequence[Task]) -> None:
    """Check metrics against torchmetrics' ranges, approximately: these are made for plots."""
    for task in tasks:
        for name, metric in task.metrics().items() if task.name in metrics else ():
            low, high = metric.plot_lower_bound, metric.plot_upper_bound
            low, high = (-math.inf if low is None else low - 1e-6), (math.inf if high is None else high + 1e-6)
            _number(metrics[task.name][name], f"{task.name}/{name}", low, high)


def _check_sizes(result: dict[str, Any]) -> None:
    for key in ("parameters", "parameters_base", "flops"):
        if type(result[key]) is not int or not 0 <= result[key] < _LARGEST:
            raise ValueError(f"its {key} is {result[key]!r}, not a count")
    if result["parameters"] < result["parameters_base"]:
        raise ValueError(f"it has {result['parameters']} parameters, fewer than {result['parameters_base']} unbranched")
    if result["variant"] in ("single", "search", "plain") and result["parameters"] != result["parameters_base"]:
        raise ValueError(f"it has {result['parameters']} parameters, not {result['parameters_base']}, and no branch")


def _check_conflict(result: dict[str, Any]) -> None:
    by_layer = require(result, "conflict_by_layer", (dict,), "it")
    for layer, rate in by_layer.items():
        _number(rate, f"the conflict rate of {layer}", 0, 1)
    if (result["variant"] in ("single", "grid")) != (not by_layer) or (result["conflict_rate"] is None) != (
        not by_layer
    ):
        raise ValueError(f"its conflict_rate is {result['conflict_rate']!r}, over {number_of_layers(by_layer)}")
    if by_layer:
        mean = sum(by_layer.values()) / len(by_layer)
        _number(result["conflict_rate"], "conflict_rate", mean - 1e-9, mean + 1e-9)


def _number(value: Any, what: str, low: float, high: float) -> None:
    # By type and not by isinstance, which takes true for an integer.
    if type(value) not in (int, float) or not low <= value <= high or math.isinf(value):
        raise ValueError(f"{what} is {value!r}, not a number from {low:g} to {high:g}")
