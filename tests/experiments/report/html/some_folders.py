"""Folders of results as benchmarks leave them, without any training."""

import copy
import json
from pathlib import Path
from typing import Any

import torch
from PIL import Image

import recon
from recon.experiments.plan import Plan

LAYERS = ("0", "1", "2")
SEEDS = (0, 1)
PLAN: dict[str, Any] = {
    "name": "tiny",
    "fit": {
        "trainer": {"max_epochs": 2},
        "model": {"backbone": {"class_path": "recon.models.LeNet"}},
        "data": {"class_path": "recon.data.Glyphs"},
    },
    "methods": [{"method": "joint", "variants": ["plain", "recon"], "seeds": list(SEEDS)}],
    "severity": -0.1,
}


def plan(**changes: Any) -> dict[str, Any]:
    return Plan.from_dict({**PLAN, **changes}).to_dict()


def runs() -> list[dict[str, Any]]:
    """The runs of the plan: + Recon is better by two points, and branches the last layer."""
    common = {"parameters_base": 100, "seconds": 1.0, "origin": {"recon": "0.1.0", "torch": "2.11", "device": "cpu"}}
    found: list[dict[str, Any]] = []
    for seed in SEEDS:
        for task in ("digit", "letter"):
            found.append(
                {
                    "id": f"single-{task}-seed{seed}", "method": "single", "variant": "single", "seed": seed,
                    "metrics": {task: {"accuracy": 0.5}}, "parameters": 100, "flops": 1000, "conflict_by_layer": {},
                    "conflict_rate": None, "delta_m": None, "delta_m_per_metric": None, **common,
                }
            )  # fmt: skip
        for variant, gain, layers in (("plain", -2.0 + 0.1 * seed, LAYERS), ("recon", 0.5 * seed, LAYERS[:2])):
            found.append(
                {
                    "id": f"joint-{variant}-seed{seed}", "method": "joint", "variant": variant, "seed": seed,
                    "metrics": {task: {"accuracy": 0.5 + gain / 200} for task in ("digit", "letter")},
                    "parameters": 100 if variant == "plain" else 130, "flops": 1000 if variant == "plain" else 1600,
                    "conflict_by_layer": dict.fromkeys(layers, 0.25), "conflict_rate": 0.25,
                    "delta_m": gain, "delta_m_per_metric": -gain, **common,
                }
            )  # fmt: skip
    return found


def folder(path: Path, plan_now: dict[str, Any] | None = None, results: list[dict[str, Any]] | None = None) -> Path:
    """A finished folder with maps, logs and one sheet of predictions."""
    path.mkdir(parents=True)
    record = {"plan": copy.deepcopy(plan_now or plan()), "runs": results or runs()}
    (path / "results.json").write_text(json.dumps(record))
    (path / "plan.json").write_text(json.dumps({**record["plan"], "data": None, "map_sha256": {}}))
    for run in record["runs"]:
        own = path / "runs" / run["id"]
        (own / "logs" / "version_0").mkdir(parents=True)
        losses = "".join(f"{step},{step},{1 / (1 + step)},\n" for step in range(2))
        (own / "logs" / "version_0" / "metrics.csv").write_text(f"epoch,step,loss/digit,test/digit\n{losses}1,1,,0.5\n")
        if run["conflict_by_layer"]:
            _map(run).save(own / "conflict_map.json")
    Image.new("RGB", (20, 10), "red").save(path / "runs" / "joint-recon-seed0" / "predictions.png")
    return path


def _map(run: dict[str, Any]) -> recon.ConflictMap:
    network = torch.nn.Sequential(*(torch.nn.Linear(2, 2) for _ in run["conflict_by_layer"]))
    analyzer = recon.ConflictAnalyzer(network, tasks=["digit", "letter"])
    for cosine in (-0.5, 0.5):
        analyzer.observe(torch.tensor([[[1.0, cosine], [cosine, 1.0]]] * len(run["conflict_by_layer"])))
    return analyzer.conflict_map()
