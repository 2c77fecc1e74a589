"""Delta-m: the gain of multi-task over single-task networks, averaged by task or by metric."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from recon.tasks.task import Task

Metrics = Mapping[str, Mapping[str, float]]


def delta_m(metrics: Metrics, baseline: Metrics, tasks: Iterable[Task]) -> float:
    """Mean relative gain over the single-task networks, in percent, higher is better.

    Maninis et al., "Attentive Single-Tasking of Multiple Tasks", CVPR 2019, averaged over each
    task's metrics first and then over tasks:
    ``100/K sum_k 1/n_k sum_i (-1)^(lower is better) (m_ki - b_ki) / b_ki``.

    >>> from recon.tasks import classification
    >>> tasks = [classification("digit", 10), classification("letter", 10)]
    >>> single = {"digit": {"accuracy": 0.8}, "letter": {"accuracy": 0.5}}
    >>> trained = {"digit": {"accuracy": 0.84}, "letter": {"accuracy": 0.5}}
    >>> round(delta_m(trained, single, tasks), 2)
    2.5

    Args:
        metrics: Task -> metric -> value m of the multi-task network.
        baseline: Task -> metric -> value b of the single-task networks.
        tasks: The tasks, whose metrics know which direction is better.

    Raises:
        ValueError: A baseline value is zero, so no gain is relative to it.
    """
    return 100 * fmean(fmean(_gains(metrics, baseline, task)) for task in tasks)


def delta_m_per_metric(metrics: Metrics, baseline: Metrics, tasks: Iterable[Task]) -> float:
    """Mean relative drop against the single-task networks, in percent, **lower** is better.

    Liu et al., "Conflict-Averse Gradient Descent for Multi-Task Learning", NeurIPS 2021, and later
    papers report this number. It is the mean over all metrics of all tasks at once, so a task with
    five metrics counts five times. With one metric per task it equals ``-delta_m``.

    >>> from recon.tasks import classification
    >>> single, trained = {"digit": {"accuracy": 0.8}}, {"digit": {"accuracy": 0.84}}
    >>> round(delta_m_per_metric(trained, single, [classification("digit", 10)]), 2)
    -5.0

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
    """Add both kinds of delta-m to the runs.

    It is ``None`` for single-task runs, and for all runs while there is no baseline. A single-task
    metric of zero is no baseline either, as no gain is relative to it; a warning says so.
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
