"""Runs as ``results.json`` has them."""

from typing import Any


def run(variant: str, seed: int = 0, method: str = "joint", **more: Any) -> dict[str, Any]:
    return {
        "id": f"{method}-{variant}-seed{seed}",
        "method": method,
        "variant": variant,
        "seed": seed,
        "metrics": {"seg": {"accuracy": 0.5}, "depth": {"abs": 2.0, "sq": 10.0, "r2": -0.5}},
        "parameters": 110,
        "parameters_base": 100,
        "flops": 1000,
        "conflict_by_layer": {"a": 0.25, "b": 0.75},
        "conflict_rate": 0.5,
        "seconds": 30.0,
        "delta_m": None,
        "delta_m_per_metric": None,
        **more,
    }


def single(task: str, values: dict[str, float], seed: int = 0) -> dict[str, Any]:
    only = {"method": "single", "metrics": {task: values}, "conflict_by_layer": {}, "conflict_rate": None}
    return run("single", seed, **{**only, "id": f"single-{task}-seed{seed}"})


BASELINE = [
    single("seg", {"accuracy": 0.3}, 0),
    single("seg", {"accuracy": 0.5}, 1),
    single("depth", {"abs": 4.0, "sq": 8.0, "r2": -0.25}, 0),
    single("depth", {"abs": 4.0, "sq": 8.0, "r2": -0.75}, 1),
]
