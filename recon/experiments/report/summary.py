"""The summary of a benchmark: means and deviations over seeds, growth and conflict."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, stdev
from typing import Any


def summarise(runs: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Summarise runs over seeds, one row per method and variant.

    The single-task networks of all tasks make one row. Every measured value is ``{"mean", "std"}``
    with the deviation of the sample, ``None`` for one seed. ``over_tasks`` holds the mean of each
    metric over tasks, and their number. ``flops_growth`` is over a plain run of the same network.
    ``over_recon`` says of a control how many more parameters and FLOPs it has than the +Recon row
    of its method, as shares of these.

    ``seconds`` are the time of a run beside others on the same machine, so they compare nothing.
    """
    runs = list(runs)
    plain = {run["parameters_base"]: run["flops"] for run in reversed(runs) if run["variant"] == "plain"}
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for run in runs:
        groups.setdefault((run["method"], run["variant"]), []).append(run)
    rows = []
    for (method, variant), group in groups.items():
        own = groups.get((method, "plain"), [])
        flops = own[0]["flops"] if own else plain.get(group[0]["parameters_base"])
        rows.append(_row(method, variant, group, own, flops))
    by_name = {(row["method"], row["variant"]): row for row in rows}
    return [{**row, "over_recon": _over_recon(row, by_name.get((row["method"], "recon")))} for row in rows]


def _over_recon(row: Mapping[str, Any], recon: Mapping[str, Any] | None) -> dict[str, float] | None:
    if recon is None or row["variant"] in ("plain", "recon"):
        return None
    return {name: row[name] / recon[name] - 1 for name in ("parameters", "flops")}


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
    """Mean of each metric over the tasks that have it; a seed's tasks may be in several runs."""
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
    """Mean conflict rate of the plain runs, in the layers that the group's runs still share."""
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
