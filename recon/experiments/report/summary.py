"""From runs to figures for a table: delta-m, means and deviations over seeds, growth."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from recon.tasks.task import Task

Metrics = Mapping[str, Mapping[str, float]]


def delta_m(metrics: Metrics, baseline: Metrics, tasks: Iterable[Task]) -> float:
    """Mean relative gain over the single-task networks, in percent, higher is better.

    Maninis et al., "Attentive Single-Tasking of Multiple Tasks", CVPR 2019, averaged over each task's metrics first and
    then over tasks: ``100/K sum_k 1/n_k sum_i (-1)^(lower is better) (m_ki - b_ki) / b_ki``.

    Args:
        metrics: Task -> metric -> value m of the multi-task network.
        baseline: Task -> metric -> value b of the single-task networks.
        tasks: The tasks, whose metrics know which direction is better.

    Raises:
        ValueError: A baseline value is zero, so that there is no relative gain.
    """
    return 100 * fmean(fmean(_gains(metrics, baseline, task)) for task in tasks)


def delta_m_per_metric(metrics: Metrics, baseline: Metrics, tasks: Iterable[Task]) -> float:
    """Mean relative drop against the single-task networks, in percent, **lower** is better.

    As Liu et al., "Conflict-Averse Gradient Descent for Multi-Task Learning", NeurIPS 2021, and those after them report
    it: the mean over all metrics of all tasks at once, so that a task with five metrics counts five times. With one
    metric a task it is ``-delta_m``.

    Args:
        metrics: Task -> metric -> value of the multi-task network.
        baseline: Task -> metric -> value of the single-task networks.
        tasks: The tasks, whose metrics know which direction is better.

    Raises:
        ValueError: A baseline value is zero.
    """
    return -100 * fmean(gain for task in tasks for gain in _gains(metrics, baseline, task))


def _gains(metrics: Metrics, baseline: Metrics, task: Task) -> list[float]:
    """Relative gain of each of a task's metrics, higher is better."""
    gains = []
    for name, higher_is_better in task.higher_is_better.items():
        base = baseline[task.name][name]
        if base == 0:
            raise ValueError(
                f"single-task {task.name}/{name} is 0, so there is no gain relative to it; train it longer"
            )
        gain = (metrics[task.name][name] - base) / abs(base)
        gains.append(gain if higher_is_better else -gain)
    return gains


def single_task_baseline(
    runs: Iterable[Mapping[str, Any]], tasks: Sequence[Task]
) -> dict[str, dict[str, float]] | None:
    """Mean metrics of the single-task runs, over seeds; ``None`` while a task has none."""
    baseline = {}
    for task in tasks:
        values = [
            run["metrics"][task.name] for run in runs if run["variant"] == "single" and task.name in run["metrics"]
        ]
        if not values:
            return None
        baseline[task.name] = {name: fmean(value[name] for value in values) for name in values[0]}
    return baseline


def with_delta_m(runs: Iterable[Mapping[str, Any]], tasks: Sequence[Task]) -> list[dict[str, Any]]:
    """The runs, each with both delta-m; ``None`` for single-task runs, and for all while there is no baseline.

    A single-task metric of zero is no baseline either, since no gain is relative to it: that is warned of.
    """
    runs = list(runs)
    baseline = single_task_baseline(runs, tasks)
    if baseline is not None and (
        zero := [f"{t}/{name}" for t in baseline for name, v in baseline[t].items() if v == 0]
    ):
        warnings.warn(f"no delta-m: single-task {', '.join(zero)} is 0; train longer", stacklevel=2)
        baseline = None
    return [
        {**run, "delta_m": None, "delta_m_per_metric": None}
        if baseline is None or run["variant"] == "single"
        else {
            **run,
            "delta_m": delta_m(run["metrics"], baseline, tasks),
            "delta_m_per_metric": delta_m_per_metric(run["metrics"], baseline, tasks),
        }
        for run in runs
    ]


def summarise(runs: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row per (method, variant), over seeds; the single-task networks of all tasks make one row.

    Every measured value is ``{"mean", "std"}``; the deviation is the sample's, ``None`` for one seed. ``over_tasks``
    has the mean over tasks of each metric, and in how many tasks it is. ``flops_growth`` is against an
    unbranched network. ``seconds`` tell how long a run took, whatever else the machine did: they compare nothing.
    """
    runs = list(runs)
    plain = next((run["flops"] for run in runs if run["variant"] == "plain"), None)
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for run in runs:
        groups.setdefault((run["method"], run["variant"]), []).append(run)
    return [
        _row(method, variant, group, groups.get((method, "plain"), []), plain)
        for (method, variant), group in groups.items()
    ]


def _row(
    method: str,
    variant: str,
    group: Sequence[Mapping[str, Any]],
    plain: Sequence[Mapping[str, Any]],
    plain_flops: int | None,
) -> dict[str, Any]:
    tasks = list(dict.fromkeys(task for run in group for task in run["metrics"]))
    metrics: dict[str, dict[str, Any]] = {}
    for task in tasks:
        values = [run["metrics"][task] for run in group if task in run["metrics"]]
        metrics[task] = {name: _spread([value[name] for value in values]) for name in values[0]}
    seeds = sorted({run["seed"] for run in group})
    single = variant == "single"
    networks = len(tasks) if single else 1  # a single-task solution is one network a task
    base = group[0]["parameters_base"]
    flops = fmean(run["flops"] for run in group)
    return {
        "method": method,
        "variant": variant,
        "seeds": seeds,
        "metrics": metrics,
        "over_tasks": _over_tasks(group, seeds),
        "delta_m": _spread_if_any([run["delta_m"] for run in group if run["delta_m"] is not None]),
        "delta_m_per_metric": _spread_if_any(
            [run["delta_m_per_metric"] for run in group if run["delta_m_per_metric"] is not None]
        ),
        "parameters": networks * fmean(run["parameters"] for run in group),
        "parameters_growth": None if single else fmean(run["parameters"] for run in group) / base - 1,
        "flops": networks * flops,
        "flops_growth": None if single or plain_flops is None else flops / plain_flops - 1,
        "conflict_rate": _spread_if_any([run["conflict_rate"] for run in group if run["conflict_rate"] is not None]),
        "conflict_rate_plain": _plain_conflict_rate(group, plain),
        "seconds": networks * fmean(run["seconds"] for run in group),
    }


def _over_tasks(group: Sequence[Mapping[str, Any]], seeds: Sequence[int]) -> dict[str, dict[str, Any]]:
    """Of each metric the mean over the tasks that have it, seed by seed; a seed's tasks may be in runs of their own."""
    by_seed: dict[int, dict[str, list[float]]] = {seed: {} for seed in seeds}
    for run in group:
        for values in run["metrics"].values():
            for name, value in values.items():
                by_seed[run["seed"]].setdefault(name, []).append(value)
    names = list(by_seed[seeds[0]])
    return {
        name: {**_spread([fmean(values[name]) for values in by_seed.values() if name in values]), "tasks": tasks}
        for name, tasks in ((name, len(by_seed[seeds[0]][name])) for name in names)
    }


def _plain_conflict_rate(group: Sequence[Mapping[str, Any]], plain: Sequence[Mapping[str, Any]]) -> float | None:
    """Conflict rate of the plain runs over the layers that the group's run of the same seed still shares; the mean."""
    by_seed = {run["seed"]: run["conflict_by_layer"] for run in plain}
    rates = [
        fmean(by_seed[run["seed"]][layer] for layer in run["conflict_by_layer"])
        for run in group
        if run["conflict_by_layer"] and run["seed"] in by_seed
    ]
    return fmean(rates) if rates and group is not plain else None


def _spread(values: Sequence[float]) -> dict[str, float | None]:
    return {"mean": fmean(values), "std": stdev(values) if len(values) > 1 else None}


def _spread_if_any(values: Sequence[float]) -> dict[str, float | None] | None:
    return _spread(values) if values else None
